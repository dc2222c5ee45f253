"""gradient_boosting: data/data_train.csv -> model_export (an ONNX graph), validated on a held-out part of the rows."""

from __future__ import annotations

import argparse
from pathlib import Path

from sklearn.ensemble import HistGradientBoostingClassifier

from stepkit.settings.model import GradientBoostingSettings
from training.kind import ModelKind
from training.step import make_model_parser, run_model_step


def build_classifier(
    settings: GradientBoostingSettings, random_seed: int, monotonic: list[int] | None
) -> HistGradientBoostingClassifier:
    """Return the unfitted model, with the direction (-1, 0, 1) of each encoded feature, or None."""
    # Early stopping would hold back rows on which no tree is fitted.
    return HistGradientBoostingClassifier(
        random_state=random_seed,
        monotonic_cst=monotonic,
        early_stopping=False,
        **settings.gradient_boosting.model_dump(),
    )


KIND = ModelKind(Path(__file__).parent, GradientBoostingSettings, "gb_config.yaml", build_classifier)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the step's flags."""
    return make_model_parser(KIND, __doc__)


def main(argv: list[str] | None = None) -> None:
    """Run the step."""
    run_model_step(KIND, make_parser().parse_args(argv))


if __name__ == "__main__":
    main()

"""random_forest: data/data_train.csv -> model_export (an ONNX graph), validated on a held-out part of the rows."""

from __future__ import annotations

import argparse
from pathlib import Path

from sklearn.ensemble import RandomForestClassifier

from stepkit.settings.model import RandomForestSettings
from training.kind import ModelKind
from training.step import make_model_parser, run_model_step


def build_classifier(
    settings: RandomForestSettings, random_seed: int, monotonic: list[int] | None
) -> RandomForestClassifier:
    """Return the unfitted forest, with the direction (-1, 0, 1) of each encoded feature, or None."""
    forest = settings.random_forest.model_dump(exclude={"monotonic"})
    directions = monotonic if settings.random_forest.monotonic else None
    return RandomForestClassifier(random_state=random_seed, monotonic_cst=directions, **forest)


KIND = ModelKind(Path(__file__).parent, RandomForestSettings, "rf_config.yaml", build_classifier)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the step's flags."""
    return make_model_parser(KIND, __doc__)


def main(argv: list[str] | None = None) -> None:
    """Run the step."""
    run_model_step(KIND, make_parser().parse_args(argv))


if __name__ == "__main__":
    main()

"""logistic_regression: data/data_train.csv -> model_export (an ONNX graph), validated on held-out rows."""

from __future__ import annotations

import argparse
from pathlib import Path

from stepkit.settings.model import LogisticRegressionSettings
from training.kind import ModelKind
from training.logistic import build_classifier
from training.step import make_model_parser, run_model_step

KIND = ModelKind(
    Path(__file__).parent,
    LogisticRegressionSettings,
    "lr_config.yaml",
    build_classifier,
    scaled=True,
    takes_directions=False,
)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the step's flags."""
    return make_model_parser(KIND, __doc__)


def main(argv: list[str] | None = None) -> None:
    """Run the step."""
    run_model_step(KIND, make_parser().parse_args(argv))


if __name__ == "__main__":
    main()

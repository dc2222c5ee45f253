"""The keys of config.yaml's `evaluate`: what is measured on the test split, and what a model must reach to pass."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from stepkit.settings.load import read_settings
from stepkit.table.columns import Strict

VERDICT = "verdict"
REASONS = "verdict_reasons"
"""Tags of an evaluate run: what came out, and the rules that failed, in words."""
PASSED, AS_GOOD, REJECTED = "passed", "as_good", "rejected"

Metric = Literal[
    "roc_auc",
    "average_precision",
    "ks_statistic",
    "log_loss",
    "brier_score",
    "calibration_error",
    "accuracy",
    "precision",
    "recall",
    "f1",
    "expected_cost",
]
"""Every metric of scored rows by its name; `expected_cost` is per row, after the cost matrix."""

Open = Annotated[float, Field(gt=0.0, lt=1.0)]


class Costs(Strict):
    """What one row of each kind costs, in any unit; the names are those of the confusion matrix."""

    true_negative: float = 0.0
    false_positive: float = 1.0
    false_negative: float = 5.0
    true_positive: float = 0.0

    @model_validator(mode="after")
    def _verify_costs(self) -> Self:
        if self.false_positive < self.true_negative or self.false_negative < self.true_positive:
            raise ValueError("a mistake must not cost less than the right answer on the same row")
        return self

    def compute_total(self, tn: Any, fp: Any, fn: Any, tp: Any) -> Any:
        """Return the cost of so many rows of each kind; numbers or arrays of one shape."""
        return self.true_negative * tn + self.false_positive * fp + self.false_negative * fn + self.true_positive * tp

    def select(self, labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Return (n,) the cost of each row."""
        table = np.array([[self.true_negative, self.false_positive], [self.false_negative, self.true_positive]])
        each: np.ndarray = table[np.asarray(labels, dtype=int), np.asarray(predicted, dtype=int)]
        return each


class Slices(Strict):
    """Which parts of the test split are looked at by themselves, and from which size on they are judged."""

    columns: dict[str, list[float]] | None = None
    min_rows: PositiveInt = 30
    min_positives: PositiveInt = 5
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 400


class Gate(Strict):
    """What a model must reach; null switches a rule off."""

    floors: dict[Metric, float] = Field(default={"roc_auc": 0.6})
    metric: Metric = "roc_auc"
    margin: NonNegativeFloat | None = 0.01
    require_better: bool = True
    calibration_error: Open | None = 0.3
    worst_slice: Open | None = 0.6
    onnx_difference: PositiveFloat | None = 1e-5
    size_mb: PositiveFloat | None = 500.0
    latency_ms: PositiveFloat | None = 50.0


class Evaluation(Strict):
    """Each key with its default, which counts where config.yaml does not name the key."""

    verdict: str = "verdict.json"
    on_reject: Literal["warn", "fail"] = "warn"
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 1000
    level: Open = 0.95
    importance_rows: PositiveInt = 2000
    costs: Costs = Costs()
    slices: Slices = Slices()
    gate: Gate = Gate()


def read_evaluation(path: Path) -> Evaluation:
    """Read the settings from a file that holds them, or that has them under the key `evaluate`, as config.yaml has.

    Raises:
        BadParameter: no such file, no YAML, or a setting is unknown or of the wrong type.
    """
    missing = f"no settings of the evaluation at {path}. Those that come with the project: config.yaml"
    return read_settings(Evaluation, path, missing, section="evaluate")

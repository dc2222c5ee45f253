"""Schema of the section `evaluate` of config.yaml: metrics on the test split and the rules of the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from stepkit.settings.load import read_settings
from stepkit.table.columns import Strict

VERDICT = "verdict"
REASONS = "verdict_reasons"
"""Tags of an evaluate run: the verdict, and the rules that failed, in words."""
PASSED, AS_GOOD, REJECTED = "passed", "as_good", "rejected"

Metric = Literal[
    "roc_auc",
    "gini",
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
"""Names of all metrics of scored rows; `expected_cost` is per row, according to the cost matrix."""

Open = Annotated[float, Field(gt=0.0, lt=1.0)]


class Costs(Strict):
    """Cost of a row in each cell of the confusion matrix, in any unit."""

    true_negative: float = 0.0
    false_positive: float = 1.0
    false_negative: float = 5.0
    true_positive: float = 0.0

    @model_validator(mode="after")
    def _verify_costs(self) -> Self:
        if self.false_positive < self.true_negative or self.false_negative < self.true_positive:
            raise ValueError("a wrong prediction must not cost less than the right one for the same label")
        return self

    def compute_total(self, tn: Any, fp: Any, fn: Any, tp: Any) -> Any:
        """Return the total cost of these numbers of rows; numbers or arrays of one shape."""
        return self.true_negative * tn + self.false_positive * fp + self.false_negative * fn + self.true_positive * tp

    def compute_per_row(self, labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Return (n,) costs, one for each row."""
        table = np.array([[self.true_negative, self.false_positive], [self.false_negative, self.true_positive]])
        row_costs: np.ndarray = table[np.asarray(labels, dtype=int), np.asarray(predicted, dtype=int)]
        return row_costs


class Slices(Strict):
    """Slices of the test split that are measured separately, and the smallest size that is judged."""

    columns: dict[str, list[float]] | None = None
    min_rows: PositiveInt = 30
    min_positives: PositiveInt = 5
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 400


class Gate(Strict):
    """Limits of the gate's rules; null switches a rule off."""

    floors: dict[Metric, float] = Field(default={"roc_auc": 0.6})
    metric: Metric = "roc_auc"
    margin: NonNegativeFloat | None = 0.01
    require_better: bool = True
    calibration_error: Open | None = 0.05
    worst_slice: Open | None = 0.6
    baselines: bool | None = True
    approval_ratio: Open | None = 0.8
    opportunity_gap: Open | None = 0.1
    onnx_difference: PositiveFloat | None = 1e-5
    size_mb: PositiveFloat | None = 500.0
    latency_ms: PositiveFloat | None = 50.0


class Evaluation(Strict):
    """Keys and their defaults, which apply to keys that config.yaml leaves out."""

    verdict: str = "verdict.json"
    on_reject: Literal["warn", "fail"] = "warn"
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 1000
    level: Open = 0.95
    importance_rows: PositiveInt = 2000
    costs: Costs = Costs()
    slices: Slices = Slices()
    cost_of_protected: bool = False
    gate: Gate = Gate()


def read_evaluation(path: Path) -> Evaluation:
    """Return the settings in a YAML file, at its top level or under the key `evaluate`, as in config.yaml.

    Raises:
        BadParameter: the file is missing or not YAML, or a setting is unknown or has the wrong type.
    """
    missing = f"{path}: no such file with settings of the evaluation. The project's own are in config.yaml."
    return read_settings(Evaluation, path, missing, section="evaluate")

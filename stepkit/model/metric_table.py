"""Table of every metric of scored rows, by its name in settings and runs: label, better direction and format."""

from __future__ import annotations

import math
from dataclasses import dataclass

NOT_COMPUTED = "not computed"


@dataclass(frozen=True)
class Metric:
    """Row of the table below."""

    label: str
    lower_is_better: bool = False


METRICS = {
    "roc_auc": Metric("ROC AUC"),
    "gini": Metric("Gini"),
    "average_precision": Metric("average precision"),
    "ks_statistic": Metric("KS statistic"),
    "log_loss": Metric("log loss", lower_is_better=True),
    "brier_score": Metric("Brier score", lower_is_better=True),
    "calibration_error": Metric("expected calibration error", lower_is_better=True),
    "accuracy": Metric("accuracy"),
    "precision": Metric("precision"),
    "recall": Metric("recall"),
    "f1": Metric("F1"),
    "expected_cost": Metric("expected cost per row", lower_is_better=True),
}


def get_metric(name: str) -> Metric:
    """Return a metric's row of the table; for an unknown name, a row whose label is the name in words."""
    return METRICS.get(name) or Metric(name.replace("_", " "))


def format_metric(value: float | None, digits: int = 4, sign: str = "") -> str:
    """Return a metric or a difference (sign "+") as text; "not computed" for None, NaN and infinity."""
    if value is None or not math.isfinite(value):
        return NOT_COMPUTED
    text = f"{value:{sign}.{digits}f}"
    return text if text.strip("+-0.") else text.lstrip("+-")

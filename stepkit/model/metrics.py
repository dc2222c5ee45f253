"""How well scored rows are ranked, calibrated and classified; used for the validation and the test split alike."""

from __future__ import annotations

import math

import numpy as np
from sklearn import metrics

from stepkit.model.statistics import calibration_error


def scores(labels: np.ndarray, probability: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return the metrics of n scored rows; NaN where one cannot be computed, as when only one class is there.

    Args:
        labels: (n,) of 0 and 1.
        probability: (n,) of the positive class.
        predicted: (n,) of 0 and 1, the class at the model's threshold.
    """
    return {
        **ranked(labels, probability),
        "log_loss": float(metrics.log_loss(labels, probability, labels=[0, 1])),
        "brier_score": float(np.mean((probability - labels) ** 2)),
        "calibration_error": calibration_error(labels, probability),
        **classified(labels, predicted),
    }


def ranked(labels: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """How well the positives stand above the negatives: ROC AUC, average precision, Kolmogorov-Smirnov."""
    if labels.min() == labels.max():
        return dict.fromkeys(("roc_auc", "average_precision", "ks_statistic"), math.nan)
    false_positive, true_positive, _ = metrics.roc_curve(labels, probability)
    return {
        "roc_auc": float(metrics.roc_auc_score(labels, probability)),
        "average_precision": float(metrics.average_precision_score(labels, probability)),
        "ks_statistic": float(np.abs(true_positive - false_positive).max()),
    }


def confusion(labels: np.ndarray, predicted: np.ndarray) -> dict[str, int]:
    """Return the counts tn, fp, fn and tp."""
    counts = np.bincount(2 * np.asarray(labels, dtype=int) + np.asarray(predicted, dtype=int), minlength=4)
    return dict(zip(("tn", "fp", "fn", "tp"), map(int, counts), strict=True))


def classified(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return accuracy, precision (0 where no row is predicted positive), recall and F1 (NaN without positives)."""
    counts = confusion(labels, predicted)
    hits, said, positives = counts["tp"], counts["tp"] + counts["fp"], counts["tp"] + counts["fn"]
    return {
        "accuracy": (counts["tp"] + counts["tn"]) / len(labels),
        "precision": hits / said if said else 0.0,
        "recall": hits / positives if positives else math.nan,
        "f1": 2 * hits / (said + positives) if positives else math.nan,
    }

"""How well scored rows are ranked and classified; used for the validation and the test split alike."""

from __future__ import annotations

import numpy as np
from sklearn import metrics


def scores(labels: np.ndarray, probability: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return the metrics of n scored rows.

    Args:
        labels: (n,) of 0 and 1, both present.
        probability: (n,) of the positive class.
        predicted: (n,) of 0 and 1, the class at the model's threshold.
    """
    return {
        "roc_auc": float(metrics.roc_auc_score(labels, probability)),
        "average_precision": float(metrics.average_precision_score(labels, probability)),
        "log_loss": float(metrics.log_loss(labels, probability)),
        "brier_score": float(metrics.brier_score_loss(labels, probability)),
        "accuracy": float(metrics.accuracy_score(labels, predicted)),
        "precision": float(metrics.precision_score(labels, predicted, zero_division=0.0)),
        "recall": float(metrics.recall_score(labels, predicted)),
        "f1": float(metrics.f1_score(labels, predicted)),
    }

"""Metrics of ranking, calibration and classification, for the validation split, the test split and resamples.

Each row has a weight, the number of times it was drawn, so that matrix products give the metrics of many resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stepkit.model.statistics import CALIBRATION_BINS
from stepkit.settings.evaluate import Costs

SMALLEST = np.finfo(float).eps
"""Probabilities are clipped at this distance from 0 and 1, as in scikit-learn's log_loss, to keep the loss finite."""


@dataclass(frozen=True)
class Scored:
    """Scored rows: true labels, probability of class 1 and predicted class, each an array (n,)."""

    labels: np.ndarray
    probability: np.ndarray
    predicted: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, rows: np.ndarray) -> Scored:
        """Return the rows at these positions, or where a mask is true."""
        return Scored(self.labels[rows], self.probability[rows], self.predicted[rows])


class WeightedMetrics:
    """Scored rows, sorted once by probability, so that their metrics for any weights are sums.

    Attributes:
        place: (n,) position of each row when sorted from the highest probability down.
    """

    def __init__(self, scored: Scored, costs: Costs) -> None:
        order = np.argsort(-scored.probability, kind="stable")
        self.place = np.argsort(order)
        falling = scored.select(order)
        self._positive = falling.labels.astype(np.float32)
        self._deviation = falling.probability - falling.labels
        # Rows with equal probability form one group, since the ranking does not order them.
        self._starts = np.flatnonzero(np.append(True, np.diff(falling.probability) != 0))
        self._parts = {kind: _compute_parts(falling, costs).astype(kind) for kind in (np.float32, np.float64)}

    def compute(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return an array (b,) for each metric, for (b, n) weights in the order of `place`; NaN where undefined.

        Counts are exact in the type of the weights: float32 is sufficient for up to 16,000,000 rows.
        """
        sums = (weights @ self._parts[weights.dtype.type]).astype(float)
        negatives, positives, hits, predicted, right, log_loss, squares, cost = sums.T
        rows = negatives + positives
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                **self._compute_ranking(weights, negatives, positives),
                "log_loss": log_loss / rows,
                "brier_score": squares / rows,
                "accuracy": right / rows,
                "precision": np.where(predicted > 0, hits / predicted, 0.0),
                "recall": hits / positives,
                "f1": np.where(positives > 0, 2 * hits / (predicted + positives), np.nan),
                "expected_cost": cost / rows,
            }

    def _compute_ranking(
        self, weights: np.ndarray, negatives: np.ndarray, positives: np.ndarray
    ) -> dict[str, np.ndarray]:
        new_rows, new_hits, deviations = (
            np.add.reduceat(values, self._starts, axis=1)
            for values in (weights, weights * self._positive, weights * self._deviation)
        )
        rows, hits = np.cumsum(new_rows, axis=1), np.cumsum(new_hits, axis=1)
        gap = hits * (1 / positives + 1 / negatives).astype(weights.dtype)[:, None]
        gap -= rows * (1 / negatives).astype(weights.dtype)[:, None]
        # Each negative counts the positives above it, and half of the positives with the same probability.
        above = (
            _multiply_rows(new_rows, hits)
            - _multiply_rows(new_hits, hits)
            - _multiply_rows(new_rows - new_hits, new_hits) / 2
        )
        roc_auc = above / (positives * negatives)
        return {
            "roc_auc": roc_auc,
            "gini": 2 * roc_auc - 1,
            "average_precision": _multiply_rows(new_hits, hits / np.maximum(rows, 1))
            / np.where(negatives > 0, positives, np.nan),
            "ks_statistic": np.maximum(gap.max(axis=1), -gap.min(axis=1)).astype(float),
            "calibration_error": _compute_calibration_error(deviations, rows - new_rows / 2, rows[:, -1:]),
        }


def _multiply_rows(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return (b,) dot products of the rows of two arrays (b, n)."""
    products: np.ndarray = np.matmul(left[:, None, :], right[:, :, None])
    return products[:, 0, 0].astype(float)


def _compute_calibration_error(deviations: np.ndarray, above: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return (b,) calibration errors.

    Args:
        deviations: (b, n) sums of probability minus label for each distinct probability.
        above: (b, n) weights of the rows above the middle of each group of equal probabilities.
        total: (b, 1) weights of all rows.
    """
    bins = np.clip((total - above) * CALIBRATION_BINS / total, 0, CALIBRATION_BINS - 1).astype(int)
    bins += np.arange(len(bins))[:, None] * CALIBRATION_BINS
    sums = np.bincount(bins.ravel(), deviations.ravel(), len(bins) * CALIBRATION_BINS)
    errors: np.ndarray = np.abs(sums).reshape(-1, CALIBRATION_BINS).sum(axis=1) / total[:, 0]
    return errors


def _compute_parts(scored: Scored, costs: Costs) -> np.ndarray:
    """Return (n, 8) contributions of each row to the sums from which the metrics are computed."""
    labels, probability, predicted = scored.labels.astype(float), scored.probability, scored.predicted.astype(float)
    safe = np.clip(probability, SMALLEST, 1 - SMALLEST)
    return np.column_stack(
        [
            1 - labels,
            labels,
            labels * predicted,
            predicted,
            labels == predicted,
            -np.where(labels == 1, np.log(safe), np.log1p(-safe)),
            (probability - labels) ** 2,
            costs.compute_per_row(scored.labels, scored.predicted),
        ]
    )


def compute_metrics(labels: np.ndarray, probability: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return every metric of n scored rows except the cost; NaN where undefined, for example with only one class.

    Args:
        labels: (n,) of 0 and 1.
        probability: (n,) of the positive class.
        predicted: (n,) of 0 and 1, the class at the model's threshold.
    """
    metrics = WeightedMetrics(Scored(labels, probability, predicted), Costs()).compute(np.ones((1, len(labels))))
    return {name: float(values[0]) for name, values in metrics.items() if name != "expected_cost"}


def count_confusion(labels: np.ndarray, predicted: np.ndarray) -> dict[str, int]:
    """Return the counts tn, fp, fn and tp."""
    counts = np.bincount(2 * np.asarray(labels, dtype=int) + np.asarray(predicted, dtype=int), minlength=4)
    return dict(zip(("tn", "fp", "fn", "tp"), map(int, counts), strict=True))

"""Metrics of many resamples at once: rows carry weights (how often each was drawn), a matrix product counts them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stepkit.model.statistics import CALIBRATION_BINS
from stepkit.settings.evaluate import Costs

SMALLEST = np.finfo(float).eps
"""A probability of 0 or 1 would cost infinitely much if it were wrong; scikit-learn's log_loss clips at the same."""


@dataclass(frozen=True)
class Scored:
    """n rows as a model answered them: the truth, the probability of class 1, and the class; each (n,)."""

    labels: np.ndarray
    probability: np.ndarray
    predicted: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def of(self, rows: np.ndarray) -> Scored:
        """The rows at these places, or where a mask is true."""
        return Scored(self.labels[rows], self.probability[rows], self.predicted[rows])


class Weighable:
    """Scored rows, sorted once, so that the metrics of any weights on them are sums.

    Attributes:
        place: (n,) where each row stands when the highest probability comes first.
    """

    def __init__(self, scored: Scored, costs: Costs) -> None:
        order = np.argsort(-scored.probability, kind="stable")
        self.place = np.empty(len(order), dtype=np.int64)
        self.place[order] = np.arange(len(order))
        falling = scored.of(order)
        self._positive = falling.labels.astype(np.float32)
        self._deviation = falling.probability - falling.labels
        steps = np.append(True, np.diff(falling.probability) != 0)
        self._starts = None if steps.all() else np.flatnonzero(steps)
        self._parts = {kind: _parts(falling, costs).astype(kind) for kind in (np.float32, np.float64)}

    def metrics(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return (b,) per metric for (b, n) weights in the order of `place`; NaN where one cannot be computed.

        Counts are exact in the type of the weights: float32 will do up to 16,000,000 rows.
        """
        sums = (weights @ self._parts[weights.dtype.type]).astype(float)
        with np.errstate(divide="ignore", invalid="ignore"):
            return {**self._ranked(weights, sums[:, 0], sums[:, 1]), **_of_sums(sums)}

    def _ranked(self, weights: np.ndarray, negatives: np.ndarray, positives: np.ndarray) -> dict[str, np.ndarray]:
        new_hits, new_rows = weights * self._positive, weights
        if self._starts is not None:  # rows of equal probability cannot be told apart
            new_hits = np.add.reduceat(new_hits, self._starts, axis=1)
            new_rows = np.add.reduceat(new_rows, self._starts, axis=1)
        hits, rows = np.cumsum(new_hits, axis=1), np.cumsum(new_rows, axis=1)
        precision = hits / np.maximum(rows, 1)
        gap = hits * (1 / positives + 1 / negatives).astype(weights.dtype)[:, None]
        gap -= rows * (1 / negatives).astype(weights.dtype)[:, None]
        # each negative counts the positives above it, and half of those beside it
        above = _dots(new_rows, hits) - _dots(new_hits, hits)
        beside = _dots(new_rows - new_hits, new_hits) / 2 if self._starts is not None else 0.0
        return {
            "roc_auc": (above - beside) / (positives * negatives),
            "average_precision": _dots(new_hits, precision) / positives,
            "ks_statistic": np.maximum(gap.max(axis=1), -gap.min(axis=1)).astype(float),
            "calibration_error": self._calibration_error(weights, rows - new_rows / 2, rows[:, -1:]),
        }

    def _calibration_error(self, weights: np.ndarray, above: np.ndarray, total: np.ndarray) -> np.ndarray:
        """Return (b,) errors; `above` holds the rows above the middle of each probability, of `total` (b, 1)."""
        deviations = weights * self._deviation
        if self._starts is not None:
            deviations = np.add.reduceat(deviations, self._starts, axis=1)
        bins = np.clip((total - above) * CALIBRATION_BINS / total, 0, CALIBRATION_BINS - 1).astype(int)
        bins += np.arange(len(bins))[:, None] * CALIBRATION_BINS
        sums = np.bincount(bins.ravel(), deviations.ravel(), len(bins) * CALIBRATION_BINS)
        each: np.ndarray = np.abs(sums).reshape(-1, CALIBRATION_BINS).sum(axis=1) / total[:, 0]
        return each


def _dots(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return (b,) the product of each row of (b, n) with the same row of the other."""
    products: np.ndarray = np.matmul(one[:, None, :], other[:, :, None])
    return products[:, 0, 0].astype(float)


def _parts(scored: Scored, costs: Costs) -> np.ndarray:
    """Return (n, 8): what each row adds to the sums from which the other metrics are made."""
    labels, probability, predicted = scored.labels.astype(float), scored.probability, scored.predicted.astype(float)
    safe = np.clip(probability, SMALLEST, 1 - SMALLEST)
    columns = [
        1 - labels,
        labels,
        labels * predicted,
        predicted,
        labels == predicted,
        -np.where(labels == 1, np.log(safe), np.log1p(-safe)),
        (probability - labels) ** 2,
        costs.of(scored.labels, scored.predicted),
    ]
    return np.column_stack(columns)


def _of_sums(sums: np.ndarray) -> dict[str, np.ndarray]:
    negatives, positives, hits, said, right, log_loss, squares, cost = sums.T
    rows = negatives + positives
    return {
        "log_loss": log_loss / rows,
        "brier_score": squares / rows,
        "accuracy": right / rows,
        "precision": np.where(said > 0, hits / said, 0.0),
        "recall": hits / positives,
        "f1": np.where(positives > 0, 2 * hits / (said + positives), np.nan),
        "expected_cost": cost / rows,
    }

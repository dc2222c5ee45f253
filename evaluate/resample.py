"""Metrics of many resamples at once: rows carry weights (how often each was drawn), a matrix product counts them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stepkit.evaluation import Costs
from stepkit.metrics import CALIBRATION_BINS, bins_of

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
        self._positive = falling.labels.astype(float)
        steps = np.append(np.diff(falling.probability) != 0, True)
        self._ends = None if steps.all() else np.flatnonzero(steps)
        self._parts = _parts(falling, costs)

    def metrics(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return (b,) per metric for (b, n) weights in the order of `place`; NaN where one cannot be computed."""
        sums = weights @ self._parts
        with np.errstate(divide="ignore", invalid="ignore"):
            return {**self._ranked(weights, sums[:, 0], sums[:, 1]), **_of_sums(sums)}

    def _ranked(self, weights: np.ndarray, negatives: np.ndarray, positives: np.ndarray) -> dict[str, np.ndarray]:
        hits = np.cumsum(weights * self._positive, axis=1)
        rows = np.cumsum(weights, axis=1)
        if self._ends is not None:  # rows of equal probability cannot be told apart
            hits, rows = hits[:, self._ends], rows[:, self._ends]
        new_hits, new_rows = _steps(hits), _steps(rows)
        # each negative counts the positives above it, and half of those beside it
        above = np.einsum("bn,bn->b", new_rows - new_hits, hits - new_hits / 2)
        precision = hits / np.maximum(rows, 1)
        gap = hits / positives[:, None] - (rows - hits) / negatives[:, None]
        return {
            "roc_auc": above / (positives * negatives),
            "average_precision": np.einsum("bn,bn->b", new_hits, precision) / positives,
            "ks_statistic": np.maximum(gap.max(axis=1), -gap.min(axis=1)),
        }


def _steps(rising: np.ndarray) -> np.ndarray:
    return np.diff(rising, axis=1, prepend=0.0)


def _parts(scored: Scored, costs: Costs) -> np.ndarray:
    """Return (n, 9 + bins): what each row adds to the sums from which the other metrics are made."""
    labels, probability, predicted = scored.labels.astype(float), scored.probability, scored.predicted.astype(float)
    safe = np.clip(probability, SMALLEST, 1 - SMALLEST)
    bins = np.eye(CALIBRATION_BINS)[bins_of(probability)] * (probability - labels)[:, None]
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
    return np.column_stack([*columns, bins])


def _of_sums(sums: np.ndarray) -> dict[str, np.ndarray]:
    negatives, positives, hits, said, right, log_loss, squares, cost = sums[:, :8].T
    rows = negatives + positives
    return {
        "log_loss": log_loss / rows,
        "brier_score": squares / rows,
        "calibration_error": np.abs(sums[:, 8:]).sum(axis=1) / rows,
        "accuracy": right / rows,
        "precision": np.where(said > 0, hits / said, 0.0),
        "recall": hits / positives,
        "f1": np.where(positives > 0, 2 * hits / (said + positives), np.nan),
        "expected_cost": cost / rows,
    }

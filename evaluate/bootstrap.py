"""Intervals of metrics, and of the differences of two models' metrics on the same rows: a seeded percentile bootstrap.

Efron, Tibshirani: An Introduction to the Bootstrap, 1993, chapter 13. Rows are drawn with replacement; both models are
asked about the same draws, which makes the interval of their difference a paired one. From a table with more than
`MOST_ROWS` rows, so many are drawn from, and the interval is narrowed by the square root of the shares (the m out of n
bootstrap: Politis, Romano, Wolf: Subsampling, 1999): the work stays the same however large the table is.

Rows carry weights (how often each was drawn), so that matrix products give the metrics of many resamples at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

from stepkit.model.statistics import CALIBRATION_BINS, Interval
from stepkit.settings.evaluate import Costs

MOST_ROWS = 20_000
CELLS_AT_ONCE = 100_000
"""Weights that are held at once; so many stay in a processor's cache."""

LEAST_DEFINED = 0.5
"""A metric that cannot be computed in more than half of the resamples has no interval."""

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
        self.place = np.argsort(order)
        falling = scored.of(order)
        self._positive = falling.labels.astype(np.float32)
        self._deviation = falling.probability - falling.labels
        # rows of equal probability cannot be told apart
        self._starts = np.flatnonzero(np.append(True, np.diff(falling.probability) != 0))
        self._parts = {kind: _parts(falling, costs).astype(kind) for kind in (np.float32, np.float64)}

    def metrics(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return (b,) per metric for (b, n) weights in the order of `place`; NaN where one cannot be computed.

        Counts are exact in the type of the weights: float32 will do up to 16,000,000 rows.
        """
        sums = (weights @ self._parts[weights.dtype.type]).astype(float)
        negatives, positives, hits, predicted, right, log_loss, squares, cost = sums.T
        rows = negatives + positives
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                **self._ranked(weights, negatives, positives),
                "log_loss": log_loss / rows,
                "brier_score": squares / rows,
                "accuracy": right / rows,
                "precision": np.where(predicted > 0, hits / predicted, 0.0),
                "recall": hits / positives,
                "f1": np.where(positives > 0, 2 * hits / (predicted + positives), np.nan),
                "expected_cost": cost / rows,
            }

    def _ranked(self, weights: np.ndarray, negatives: np.ndarray, positives: np.ndarray) -> dict[str, np.ndarray]:
        new_rows, new_hits, deviations = (
            np.add.reduceat(values, self._starts, axis=1)
            for values in (weights, weights * self._positive, weights * self._deviation)
        )
        rows, hits = np.cumsum(new_rows, axis=1), np.cumsum(new_hits, axis=1)
        gap = hits * (1 / positives + 1 / negatives).astype(weights.dtype)[:, None]
        gap -= rows * (1 / negatives).astype(weights.dtype)[:, None]
        # each negative counts the positives above it, and half of those beside it
        above = _dots(new_rows, hits) - _dots(new_hits, hits) - _dots(new_rows - new_hits, new_hits) / 2
        return {
            "roc_auc": above / (positives * negatives),
            "average_precision": _dots(new_hits, hits / np.maximum(rows, 1)) / positives,
            "ks_statistic": np.maximum(gap.max(axis=1), -gap.min(axis=1)).astype(float),
            "calibration_error": _calibration_error(deviations, rows - new_rows / 2, rows[:, -1:]),
        }


def _dots(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return (b,) the product of each row of (b, n) with the same row of the other."""
    products: np.ndarray = np.matmul(one[:, None, :], other[:, :, None])
    return products[:, 0, 0].astype(float)


def _calibration_error(deviations: np.ndarray, above: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return (b,) errors; of (b, 1) `total` rows, `above` (b, n) are above the middle of each probability."""
    bins = np.clip((total - above) * CALIBRATION_BINS / total, 0, CALIBRATION_BINS - 1).astype(int)
    bins += np.arange(len(bins))[:, None] * CALIBRATION_BINS
    sums = np.bincount(bins.ravel(), deviations.ravel(), len(bins) * CALIBRATION_BINS)
    errors: np.ndarray = np.abs(sums).reshape(-1, CALIBRATION_BINS).sum(axis=1) / total[:, 0]
    return errors


def _parts(scored: Scored, costs: Costs) -> np.ndarray:
    """Return (n, 8): what each row adds to the sums from which the metrics are made."""
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
            costs.of(scored.labels, scored.predicted),
        ]
    )


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made: how many resamples, from which seed, at which level (0.95), after which costs."""

    resamples: int
    seed: int
    level: float
    costs: Costs

    def intervals(self, scored: Scored) -> dict[str, Interval]:
        """Return every metric of n scored rows with its interval."""
        (found,) = self._metrics(scored)
        return {name: self._interval(values, len(scored)) for name, values in found.items()}

    def differences(self, ours: Scored, theirs: Scored) -> dict[str, Interval]:
        """Return every metric of `ours` minus that of `theirs`, who answered the same n rows, with its interval."""
        found, others = self._metrics(ours, theirs)
        return {name: self._interval(values - others[name], len(ours)) for name, values in found.items()}

    def _metrics(self, *models: Scored) -> list[dict[str, np.ndarray]]:
        """Return each model's metrics (2 + b,): of all n rows, of the rows that are drawn from, of each resample."""
        rows, random = len(models[0]), np.random.default_rng(self.seed)
        whole = [Weighable(one, self.costs).metrics(np.ones((1, rows))) for one in models]
        if rows > MOST_ROWS:
            kept = random.choice(rows, MOST_ROWS, replace=False)
            models = tuple(one.of(kept) for one in models)
        weighable = [Weighable(one, self.costs) for one in models]
        with threadpool_limits(1, "blas"):  # its products are small: more threads would mostly wait for each other
            chunks = [
                [model.metrics(weights) for model, weights in zip(weighable, drawn, strict=True)]
                for drawn in self._weights([model.place for model in weighable], random)
            ]
        return [
            {name: np.concatenate([value, *(chunk[number][name] for chunk in chunks)]) for name, value in found.items()}
            for number, found in enumerate(whole)
        ]

    def _weights(self, places: list[np.ndarray], random: np.random.Generator) -> Iterator[list[np.ndarray]]:
        """Yield some resamples at a time: (b, n) weights in the order of each model; first of all each row once."""
        rows = len(places[0])
        yield [np.ones((1, rows)) for _ in places]
        at_once = max(1, CELLS_AT_ONCE // rows)
        for first in range(0, self.resamples, at_once):
            count = min(at_once, self.resamples - first)
            drawn = random.integers(0, rows, (count, rows))
            offsets = np.arange(count)[:, None] * rows
            # the rows of a single model may be drawn from in any order, so in its own
            orders = [place[drawn] for place in places] if len(places) > 1 else [drawn]
            yield [_counted(order + offsets) for order in orders]

    def _interval(self, values: np.ndarray, rows: int) -> Interval:
        value, own, resampled = values[0], values[1], values[2:]
        defined = resampled[np.isfinite(resampled)]
        if not np.isfinite(value) or len(defined) < LEAST_DEFINED * len(resampled):
            return Interval(float(value), np.nan, np.nan)
        tail, shrink = (1 - self.level) / 2, min(1.0, MOST_ROWS / rows) ** 0.5
        low, high = value + (np.quantile(defined, [tail, 1 - tail]) - own) * shrink
        return Interval(float(value), float(low), float(high))


def _counted(drawn: np.ndarray) -> np.ndarray:
    """Return (b, n) how often each row was drawn, from (b, n) places in the flattened result."""
    return np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float32)

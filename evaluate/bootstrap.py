"""Intervals of metrics, and of the differences of two models' metrics on the same rows: a seeded percentile bootstrap.

Efron, Tibshirani: An Introduction to the Bootstrap, 1993, chapter 13. Rows are drawn with replacement; both models are
asked about the same draws, which makes the interval of their difference a paired one. From a table with more than
`MOST_ROWS` rows, so many are drawn from, and the interval is narrowed by the square root of the shares (the m out of n
bootstrap: Politis, Romano, Wolf: Subsampling, 1999): the work stays the same however large the table is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

from stepkit.model.metrics import Scored, WeightedMetrics
from stepkit.model.statistics import Interval
from stepkit.settings.evaluate import Costs

MOST_ROWS = 20_000
CELLS_AT_ONCE = 100_000
"""Weights that are held at once; so many stay in a processor's cache."""

LEAST_DEFINED = 0.5
"""A metric that cannot be computed in more than half of the resamples has no interval."""


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made: how many resamples, from which seed, at which level (0.95), after which costs."""

    resamples: int
    seed: int
    level: float
    costs: Costs

    def compute_intervals(self, scored: Scored) -> dict[str, Interval]:
        """Return every metric of n scored rows with its interval."""
        (found,) = self._compute_metrics(scored)
        return {name: self._compute_interval(values, len(scored)) for name, values in found.items()}

    def compute_differences(self, ours: Scored, theirs: Scored) -> dict[str, Interval]:
        """Return every metric of `ours` minus that of `theirs`, who answered the same n rows, with its interval."""
        found, others = self._compute_metrics(ours, theirs)
        return {name: self._compute_interval(values - others[name], len(ours)) for name, values in found.items()}

    def _compute_metrics(self, *models: Scored) -> list[dict[str, np.ndarray]]:
        """Return each model's metrics (2 + b,): of all n rows, of the rows that are drawn from, of each resample."""
        rows, random = len(models[0]), np.random.default_rng(self.seed)
        whole = [WeightedMetrics(one, self.costs).compute(np.ones((1, rows))) for one in models]
        if rows > MOST_ROWS:
            kept = random.choice(rows, MOST_ROWS, replace=False)
            models = tuple(one.select(kept) for one in models)
        weighable = [WeightedMetrics(one, self.costs) for one in models]
        with threadpool_limits(1, "blas"):  # its products are small: more threads would mostly wait for each other
            chunks = [
                [model.compute(weights) for model, weights in zip(weighable, drawn, strict=True)]
                for drawn in self._iter_weights([model.place for model in weighable], random)
            ]
        return [
            {name: np.concatenate([value, *(chunk[number][name] for chunk in chunks)]) for name, value in found.items()}
            for number, found in enumerate(whole)
        ]

    def _iter_weights(self, places: list[np.ndarray], random: np.random.Generator) -> Iterator[list[np.ndarray]]:
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
            yield [_count_draws(order + offsets) for order in orders]

    def _compute_interval(self, values: np.ndarray, rows: int) -> Interval:
        value, own, resampled = values[0], values[1], values[2:]
        defined = resampled[np.isfinite(resampled)]
        if not np.isfinite(value) or len(defined) < LEAST_DEFINED * len(resampled):
            return Interval(float(value), np.nan, np.nan)
        tail, shrink = (1 - self.level) / 2, min(1.0, MOST_ROWS / rows) ** 0.5
        low, high = value + (np.quantile(defined, [tail, 1 - tail]) - own) * shrink
        return Interval(float(value), float(low), float(high))


def _count_draws(drawn: np.ndarray) -> np.ndarray:
    """Return (b, n) how often each row was drawn, from (b, n) places in the flattened result."""
    return np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float32)

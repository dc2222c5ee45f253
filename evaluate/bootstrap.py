"""Intervals of metrics, and of the differences of two models' metrics on the same rows: a seeded percentile bootstrap.

Source: Efron, Tibshirani: An Introduction to the Bootstrap, 1993, chapter 13. Rows are drawn with replacement. Both
models are scored on the same draws, which makes the interval of their difference paired. A table with more than
`MOST_ROWS` rows is first reduced to so many random rows, which limits the work. The interval is then narrowed by the
square root of their share (m out of n bootstrap: Politis, Romano, Wolf: Subsampling, 1999).
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
"""Number of weights in memory at a time: so many fit into a processor's cache."""

LEAST_DEFINED = 0.5
"""Share of resamples in which a metric must be defined; below it, the metric has no interval."""


@dataclass(frozen=True)
class Bootstrap:
    """Settings of the bootstrap: number of resamples, seed, level of the intervals (such as 0.95), costs."""

    resamples: int
    seed: int
    level: float
    costs: Costs

    def compute_intervals(self, scored: Scored) -> dict[str, Interval]:
        """Return every metric of n scored rows with its interval."""
        (metrics,) = self._compute_metrics(scored)
        return {name: self._compute_interval(values, len(scored)) for name, values in metrics.items()}

    def compute_differences(self, challenger: Scored, champion: Scored) -> dict[str, Interval]:
        """Return every metric of the challenger minus the champion's, on the same n rows, with its paired interval."""
        metrics, subtracted = self._compute_metrics(challenger, champion)
        return {
            name: self._compute_interval(values - subtracted[name], len(challenger)) for name, values in metrics.items()
        }

    def _compute_metrics(self, *models: Scored) -> list[dict[str, np.ndarray]]:
        """Return each model's metrics, (2 + b,): on all n rows, on the rows to draw from, on each of b resamples."""
        rows, random = len(models[0]), np.random.default_rng(self.seed)
        on_all_rows = [WeightedMetrics(model, self.costs).compute(np.ones((1, rows))) for model in models]
        if rows > MOST_ROWS:
            places = random.choice(rows, MOST_ROWS, replace=False)
            models = tuple(model.select(places) for model in models)
        weighted = [WeightedMetrics(model, self.costs) for model in models]
        with threadpool_limits(
            1, "blas"
        ):  # the matrix products are so small that more threads only wait for each other
            chunks = [
                [model.compute(weights) for model, weights in zip(weighted, drawn, strict=True)]
                for drawn in self._iter_weights([model.place for model in weighted], random)
            ]
        return [
            {
                name: np.concatenate([value, *(chunk[number][name] for chunk in chunks)])
                for name, value in metrics.items()
            }
            for number, metrics in enumerate(on_all_rows)
        ]

    def _iter_weights(self, places: list[np.ndarray], random: np.random.Generator) -> Iterator[list[np.ndarray]]:
        """Yield blocks of resamples as (b, n) weights in each model's row order; the first block has every row once."""
        rows = len(places[0])
        yield [np.ones((1, rows)) for _ in places]
        at_once = max(1, CELLS_AT_ONCE // rows)
        for first in range(0, self.resamples, at_once):
            count = min(at_once, self.resamples - first)
            drawn = random.integers(0, rows, (count, rows))
            offsets = np.arange(count)[:, None] * rows
            # Draws for a single model need no order that two models share.
            orders = [place[drawn] for place in places] if len(places) > 1 else [drawn]
            yield [_count_draws(order + offsets) for order in orders]

    def _compute_interval(self, values: np.ndarray, rows: int) -> Interval:
        value, center, resampled = values[0], values[1], values[2:]
        defined = resampled[np.isfinite(resampled)]
        if not np.isfinite(value) or len(defined) < LEAST_DEFINED * len(resampled):
            return Interval(float(value), np.nan, np.nan)
        tail, shrink = (1 - self.level) / 2, min(1.0, MOST_ROWS / rows) ** 0.5
        low, high = value + (np.quantile(defined, [tail, 1 - tail]) - center) * shrink
        return Interval(float(value), float(low), float(high))


def _count_draws(drawn: np.ndarray) -> np.ndarray:
    """Return the (b, n) numbers of draws of each row, from (b, n) places in the flattened result."""
    return np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float32)

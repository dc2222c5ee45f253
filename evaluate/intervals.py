"""Intervals of metrics, and of the differences of two models' metrics on the same rows: a seeded percentile bootstrap.

Efron, Tibshirani: An Introduction to the Bootstrap, 1993, chapter 13. Rows are drawn with replacement; two models are
asked about the same draws, which makes the interval of their difference a paired one. Of a table with more than
`MOST_ROWS` rows, so many are drawn from, and the interval is narrowed by the square root of the shares (the m out of n
bootstrap: Politis, Romano, Wolf: Subsampling, 1999): the work stays the same however large the table is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

from evaluate.resample import Scored, Weighable
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

    def intervals(self, scored: Scored) -> dict[str, Interval]:
        """Return every metric of n scored rows with its interval."""
        (whole,), (drawn,), shrink = self._distributions(scored)
        return {name: self._interval(whole[name], drawn[name], shrink) for name in whole}

    def differences(self, ours: Scored, theirs: Scored) -> dict[str, Interval]:
        """Return every metric of `ours` minus that of `theirs`, who answered the same n rows, with its interval."""
        (ours_whole, theirs_whole), (ours_drawn, theirs_drawn), shrink = self._distributions(ours, theirs)
        return {
            name: self._interval(ours_whole[name] - theirs_whole[name], ours_drawn[name] - theirs_drawn[name], shrink)
            for name in ours_whole
        }

    def _distributions(self, *models: Scored) -> tuple[list[dict[str, float]], list[dict[str, np.ndarray]], float]:
        """Return the metrics of each model on all rows; those of the sample and its resamples; the intervals' scale."""
        rows, random = len(models[0]), np.random.default_rng(self.seed)
        whole = [first_of(Weighable(one, self.costs).metrics(np.ones((1, rows)))) for one in models]
        taken, shrink = models, 1.0
        if rows > MOST_ROWS:
            sample = random.choice(rows, MOST_ROWS, replace=False)
            taken, shrink = tuple(one.of(sample) for one in models), (MOST_ROWS / rows) ** 0.5
        sorted_models = [Weighable(one, self.costs) for one in taken]
        with threadpool_limits(1, "blas"):  # its products are small: more threads would mostly wait for each other
            chunks = [
                [model.metrics(weights) for model, weights in zip(sorted_models, drawn, strict=True)]
                for drawn in self._weights([model.place for model in sorted_models], random)
            ]
        drawn = [
            {name: np.concatenate([chunk[number][name] for chunk in chunks]) for name in whole[number]}
            for number in range(len(models))
        ]
        return whole, drawn, shrink

    def _weights(self, places: list[np.ndarray], random: np.random.Generator) -> Iterator[list[np.ndarray]]:
        """Yield some resamples at a time: (b, n) weights in the order of each model; first of all each row once."""
        rows = len(places[0])
        two = len(places) > 1  # the rows of a single model may be drawn from in any order, so in its own
        yield [np.ones((1, rows)) for _ in places]
        at_once = max(1, CELLS_AT_ONCE // rows)
        for first in range(0, self.resamples, at_once):
            count = min(at_once, self.resamples - first)
            drawn = random.integers(0, rows, (count, rows))
            offsets = np.arange(count)[:, None] * rows
            yield [_counted((place[drawn] if two else drawn) + offsets) for place in places]

    def _interval(self, value: float, drawn: np.ndarray, shrink: float) -> Interval:
        """The first of `drawn` (1 + b,) is the sample's own value, from which the others deviate."""
        own, resampled = drawn[0], drawn[1:][np.isfinite(drawn[1:])]
        if not np.isfinite(value) or len(resampled) < LEAST_DEFINED * (len(drawn) - 1):
            return Interval(float(value), np.nan, np.nan)
        tail = (1 - self.level) / 2
        low, high = value + (np.quantile(resampled, [tail, 1 - tail]) - own) * shrink
        return Interval(float(value), float(low), float(high))


def _counted(drawn: np.ndarray) -> np.ndarray:
    """Return (b, n) how often each row was drawn, from (b, n) places in the flattened result."""
    return np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float32)


def first_of(found: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: float(values[0]) for name, values in found.items()}

"""Calibration error of a model, and the part of it that is not chance.

On a finite number of rows, the error of perfect probabilities is above 0: about 0.10 on 120 rows and 0.06 on 300. The
*excess* is the error minus its expectation under perfect calibration, for which labels are drawn from the probabilities
and the error is computed in the same bins. The idea is the consistency test of Broecker, Smith: Increasing the
Reliability of Reliability Diagrams, Weather and Forecasting 22, 2007.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from evaluate.bootstrap import MOST_ROWS
from stepkit.model.statistics import Interval, assign_bins

DRAWS = 500
"""Number of drawn labels per row; the expectation is then accurate to about 1 % of its value."""


@dataclass(frozen=True)
class Calibration:
    """Calibration error on n rows, its expectation under perfect calibration, and the excess with its interval."""

    error: float
    expected: float
    excess: Interval
    rows: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as in evaluation.json."""
        return asdict(self)


def measure_calibration(probability: np.ndarray, error: Interval, seed: int) -> Calibration:
    """Return the calibration of n rows with these probabilities, (n,), and this calibration error.

    The interval of the excess has the width of the error's bootstrap interval, and the excess as its middle. The
    bootstrap interval itself is too high, because resampling adds noise to every bin and a bin's noise adds to the
    error. Its width is too large rather than too small for a perfectly calibrated model.
    """
    expected = compute_expected_error(probability, seed)
    excess, reach = error.value - expected, (error.high - error.low) / 2
    return Calibration(error.value, expected, Interval(excess, excess - reach, excess + reach), len(probability))


def compute_expected_error(probability: np.ndarray, seed: int) -> float:
    """Return the mean calibration error of n perfectly calibrated probabilities, by drawing their labels.

    Of more than MOST_ROWS rows, so many random ones are used, and the result is scaled by the square root of their
    share.
    """
    random = np.random.default_rng(seed)
    scale = min(1.0, MOST_ROWS / len(probability)) ** 0.5
    if len(probability) > MOST_ROWS:
        probability = random.choice(probability, MOST_ROWS, replace=False)
    bins = assign_bins(probability)
    order = np.argsort(bins, kind="stable")
    starts = np.flatnonzero(np.diff(bins[order], prepend=-1))
    sums = np.add.reduceat(probability[order], starts)
    errors = [
        np.abs(np.add.reduceat(random.random(len(order)) < probability[order], starts, dtype=float) - sums).sum()
        for _ in range(DRAWS)
    ]
    return float(np.mean(errors) / len(probability) * scale)

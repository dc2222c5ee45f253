"""Statistics with one definition for every step, the gate, the drift monitoring and the report."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

CALIBRATION_BINS = 10
BINS_BY = "equal_mass"
"""Method that divides the rows into calibration bins. Errors from other bins are not comparable."""


@dataclass(frozen=True)
class Interval:
    """Value with the lower and upper end of its interval; NaN where undefined."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict, for JSON."""
        return asdict(self)

    def compute_standard_error(self, level: float = 0.95) -> float:
        """Return the standard error, given that this is a normal interval at `level`."""
        return (self.high - self.low) / (2 * _compute_reach(level))


NOT_COMPUTED = Interval(math.nan, math.nan, math.nan)


def _compute_reach(level: float) -> float:
    """Return the half width of a two-sided normal interval at `level`, in standard errors."""
    return float(stats.norm.ppf((1 + level) / 2))


def compute_sidak_level(alpha: float, tests: int) -> float:
    """Return the level for each of `tests` independent tests, so that their family-wise level is `alpha`.

    Source: Z. Sidak, Rectangular Confidence Regions for the Means of Multivariate Normal Distributions, Journal of
    the American Statistical Association 62, 1967.
    """
    return float(-np.expm1(np.log1p(-alpha) / max(tests, 1)))


def compute_rate(count: int, rows: int, level: float) -> Interval:
    """Return the share of `count` in `rows` with its Wilson interval; NaN without rows."""
    if not rows:
        return NOT_COMPUTED
    interval = stats.binomtest(count, rows).proportion_ci(level, method="wilson")
    return Interval(count / rows, float(interval.low), float(interval.high))


def compute_ks_test(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Return Kolmogorov-Smirnov distance (0 to 1) and two-sided p-value of samples (n,) and (m,) without NaN."""
    result = stats.ks_2samp(first, second)
    return float(result.statistic), float(result.pvalue)


def compute_total_variation(first: np.ndarray, second: np.ndarray) -> float:
    """Return the share of rows (0 to 1) whose code would have to change, given two arrays (k,) of shares of k codes."""
    return float(np.abs(first - second).sum() / 2)


def assign_bins(probability: np.ndarray) -> np.ndarray:
    """Return (n,) the calibration bin (0 to 9) of each probability.

    The bins have equal numbers of rows, except that equal probabilities share a bin.
    """
    middle = stats.rankdata(probability) - 0.5
    bins: np.ndarray = (middle * CALIBRATION_BINS / len(probability)).astype(int)
    return bins


def compute_calibration_error(labels: np.ndarray, probability: np.ndarray) -> float:
    """Return the expected calibration error: |mean probability - share of positives| of each bin, weighted by rows.

    Source: Naeini, Cooper, Hauskrecht, Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015.
    """
    deviations = np.bincount(assign_bins(probability), probability - labels, CALIBRATION_BINS)
    return float(np.abs(deviations).sum() / len(labels))


def compute_auc_interval(labels: np.ndarray, scores: np.ndarray, level: float = 0.95) -> Interval:
    """Return the ROC AUC of (n,) scores with its interval; NaN unless both classes have 2 rows or more.

    Source: DeLong, DeLong, Clarke-Pearson, Comparing the Areas under Two or More Correlated Receiver Operating
    Characteristic Curves, Biometrics 44, 1988.

    Computed by mid-ranks as in Sun, Xu, Fast Implementation of DeLong's Algorithm, IEEE Signal Processing Letters 21,
    2014.
    """
    return _compute_normal_interval(*_compute_placements(labels, scores), level)


def compute_auc_difference(labels: np.ndarray, first: np.ndarray, second: np.ndarray, level: float = 0.95) -> Interval:
    """Return the ROC AUC of the `first` scores minus the AUC of the `second`, on the same n rows.

    The interval is DeLong's for paired samples.
    """
    first_hits, first_misses = _compute_placements(labels, first)
    second_hits, second_misses = _compute_placements(labels, second)
    return _compute_normal_interval(first_hits - second_hits, first_misses - second_misses, level)


def _compute_placements(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of negatives below each positive, and the share of positives above each negative."""
    above, below = scores[labels == 1], scores[labels == 0]
    ranks = stats.rankdata(np.concatenate([above, below]))
    hits = (ranks[: len(above)] - stats.rankdata(above)) / max(len(below), 1)
    misses = 1 - (ranks[len(above) :] - stats.rankdata(below)) / max(len(above), 1)
    return hits, misses


def _compute_normal_interval(hits: np.ndarray, misses: np.ndarray, level: float) -> Interval:
    if min(len(hits), len(misses)) < 2:
        return Interval(np.nan, np.nan, np.nan)
    value = float(hits.mean())
    reach = _compute_reach(level) * float(np.sqrt(hits.var(ddof=1) / len(hits) + misses.var(ddof=1) / len(misses)))
    return Interval(value, value - reach, value + reach)

"""ROC AUC of two models on the same rows, and the interval of their difference, without resampling.

DeLong, DeLong, Clarke-Pearson: Comparing the Areas under Two or More Correlated Receiver Operating Characteristic
Curves, Biometrics 44, 1988; by mid-ranks as in Sun, Xu: Fast Implementation of DeLong's Algorithm, IEEE Signal
Processing Letters 21, 2014.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm, rankdata

from evaluate.intervals import Interval


def auc_difference(labels: np.ndarray, ours: np.ndarray, theirs: np.ndarray, level: float = 0.95) -> Interval:
    """Return AUC of `ours` minus AUC of `theirs` with its interval; NaN unless both classes have 2 rows or more.

    Args:
        labels: (n,) of 0 and 1.
        ours: (n,) of scores; so are `theirs`.
    """
    positives, negatives = int(labels.sum()), int(len(labels) - labels.sum())
    if min(positives, negatives) < 2:
        return Interval(np.nan, np.nan, np.nan)
    hits, misses = (
        one - other for one, other in zip(_placements(labels, ours), _placements(labels, theirs), strict=True)
    )
    spread = float(np.sqrt(hits.var(ddof=1) / positives + misses.var(ddof=1) / negatives))
    value, reach = float(hits.mean()), float(norm.ppf((1 + level) / 2)) * spread
    return Interval(value, value - reach, value + reach)


def _placements(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each positive, the share of negatives below it, and for each negative that of positives above it."""
    above, below = scores[labels == 1], scores[labels == 0]
    ranks = rankdata(np.concatenate([above, below]))
    hits = (ranks[: len(above)] - rankdata(above)) / len(below)
    misses = 1 - (ranks[len(above) :] - rankdata(below)) / len(above)
    return hits, misses

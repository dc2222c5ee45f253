"""Two-sample Kolmogorov-Smirnov tests for many columns at one family-wise error rate."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy import stats

EXACT_ROWS = 10_000
"""The largest sample for which scipy computes the p-value exactly (ks_2samp, method auto)."""


@dataclass(frozen=True)
class KSResult:
    """One column's test; `statistic` is the largest distance of the two empirical distributions (0 to 1)."""

    column: str
    statistic: float
    p_value: float
    alpha: float
    sample_rows: int
    reference_rows: int

    @property
    def differs(self) -> bool:
        return self.p_value < self.alpha


def sidak(alpha: float, tests: int) -> float:
    """Return the level of each of `tests` independent tests whose family-wise level is `alpha`.

    Source: Z. Sidak (1967), Rectangular confidence regions for the means of multivariate normal
    distributions, Journal of the American Statistical Association 62 (318), 626-633.
    """
    return float(1.0 - (1.0 - alpha) ** (1.0 / tests))


def ks_test(sample: pd.Series, reference: pd.Series, alpha: float) -> KSResult:
    """Test a column for a difference in distribution; gaps are left out of both sides."""
    ours = pd.to_numeric(sample, errors="coerce").dropna().astype(float)
    theirs = pd.to_numeric(reference, errors="coerce").dropna().astype(float)
    if ours.empty or theirs.empty:
        # nothing to compare on one side is a difference, unless both sides are empty
        p_value = 1.0 if ours.empty and theirs.empty else 0.0
        return KSResult(str(sample.name), 1.0 - p_value, p_value, alpha, len(ours), len(theirs))
    distance, p_value = kolmogorov_smirnov(ours.to_numpy(), theirs.to_numpy())
    return KSResult(str(sample.name), distance, p_value, alpha, len(ours), len(theirs))


def kolmogorov_smirnov(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Return distance and two-sided p-value of two samples (n,) and (m,) without gaps, as scipy's ks_2samp does.

    Large samples are compared by their distinct values: scipy looks up every row of each sample in the other, which
    takes most of the time of the data checks and several copies of both.
    """
    if max(len(ours), len(theirs)) <= EXACT_ROWS:
        result = stats.ks_2samp(ours, theirs)
        return float(result.statistic), float(result.pvalue)
    distance = largest_distance(ours, theirs)
    more, fewer = float(max(len(ours), len(theirs))), float(min(len(ours), len(theirs)))
    p_value = stats.kstwo.sf(distance, np.round(more * fewer / (more + fewer)))  # Smirnov's asymptotic formula
    return distance, float(np.clip(p_value, 0, 1))


def largest_distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the largest distance (0 to 1) of the empirical distributions of two samples (n,) and (m,)."""
    every = np.union1d(ours, theirs)
    return float(np.abs(share_up_to(every, ours) - share_up_to(every, theirs)).max())


def share_up_to(points: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return for each of (k,) points the share of `values` (n,) that are not above it."""
    distinct, counts = np.unique(values, return_counts=True)
    shares = np.concatenate([[0], counts.cumsum()]) / len(values)
    return np.asarray(shares[np.searchsorted(distinct, points, side="right")])


def as_table(results: list[KSResult]) -> pd.DataFrame:
    """One row per column, the largest distance first."""
    rows = [{**asdict(result), "differs": result.differs} for result in results]
    return pd.DataFrame(rows).sort_values("statistic", ascending=False, ignore_index=True)

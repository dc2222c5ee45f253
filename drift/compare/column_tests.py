"""Two samples of a column -> whether they differ: certainly (a test) and by an amount that matters (an effect).

The test follows from the column and from the sizes of the samples; both must speak before a column counts as drifted.
With few rows the certainty decides, with many the size of the effect: among 30,000 rows a test finds differences that
nobody would act upon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from stepkit.model.statistics import compute_ks_test, compute_total_variation

MAX_CODES = 12
"""Up to so many distinct numbers a column counts as one of codes."""

MIN_EXPECTED = 5.0
"""Cells of a contingency table that expect fewer rows are pooled (Cochran, Biometrics 10, 1954)."""

MIN_SAMPLE = 20
MAX_EXACT_ROWS = 1_000
"""Up to so many rows in the smaller sample p-values are computed exactly."""

NO_TEST = "nothing to compare"


@dataclass(frozen=True)
class ColumnComparison:
    """Two samples of a column. `score` is an effect between 0 and 1, `p_value` how likely it is by chance alone."""

    column: str
    test: str
    score: float
    p_value: float
    threshold: float
    p_threshold: float
    drifted: bool
    reference_mean: float | None
    current_mean: float | None


def compare_column(
    column: str, reference: pd.Series, current: pd.Series, coded: bool, p_threshold: float, min_effect: float
) -> ColumnComparison:
    """Compare two samples of a column; gaps are left out (they are judged by their share, see quality)."""
    before, now = reference.dropna(), current.dropna()
    test, score, p_value = NO_TEST, 0.0, 1.0
    if min(len(before), len(now)) >= MIN_SAMPLE:
        test, score, p_value = compare_shares(before, now) if coded else compare_order(before, now)
    drifted = p_value <= p_threshold and score >= min_effect
    means = compute_mean(reference), compute_mean(current)
    return ColumnComparison(column, test, score, p_value, min_effect, p_threshold, drifted, *means)


def compute_mean(values: pd.Series) -> float | None:
    if not pd.api.types.is_numeric_dtype(values) or values.isna().all():
        return None
    mean = float(values.mean())
    return mean if math.isfinite(mean) else None


def is_coded(reference: pd.Series, declared: bool) -> bool:
    """Whether a column holds codes (compared by their shares) rather than amounts (compared by their order)."""
    return declared or not pd.api.types.is_numeric_dtype(reference) or reference.nunique() <= MAX_CODES


def compare_order(reference: pd.Series, current: pd.Series) -> tuple[str, float, float]:
    """Two-sample Kolmogorov-Smirnov; the score is the largest distance of the two distribution functions."""
    return "Kolmogorov-Smirnov", *compute_ks_test(reference.to_numpy(float), current.to_numpy(float))


def compare_shares(reference: pd.Series, current: pd.Series) -> tuple[str, float, float]:
    """Compare the shares of codes; the score is the total variation: the share of rows that would have to move.

    Rare codes are pooled. Two codes of few rows are compared by Fisher's exact test, others by chi-square.
    """
    counts = _count_codes(reference, current)
    if len(counts) < 2:
        return NO_TEST, 0.0, 1.0
    share = counts / counts.sum(axis=0)
    score = compute_total_variation(share[:, 0], share[:, 1])
    if len(counts) == 2 and counts.sum(axis=0).min() <= MAX_EXACT_ROWS:
        return "Fisher exact", score, float(stats.fisher_exact(counts).pvalue)
    result: Any = stats.chi2_contingency(counts, correction=False)
    return "chi-square", score, float(result.pvalue)


def _count_codes(reference: pd.Series, current: pd.Series) -> np.ndarray:
    """Rows by code (k x 2: reference, current), rarest first; the rarest are pooled until each line expects enough."""
    table = pd.concat([reference.value_counts(), current.value_counts()], axis=1).fillna(0.0).to_numpy(dtype=float)
    table = table[np.argsort(table.sum(axis=1), kind="stable")]
    expected = table.sum(axis=1) * table.sum(axis=0).min() / table.sum()
    too_few = int((np.cumsum(expected) < MIN_EXPECTED).sum()) if expected[0] < MIN_EXPECTED else 0
    pooled: np.ndarray = np.vstack([table[: too_few + 1].sum(axis=0), table[too_few + 1 :]])
    return pooled

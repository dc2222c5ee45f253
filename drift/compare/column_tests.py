"""Comparison of two samples of a column by a statistical test and by an effect size.

A column has drifted only if the test is significant and the effect is large enough. The test depends on the type of
the column and on the sample sizes. With few rows the test decides; with many rows the effect decides, because among
30,000 rows a test also finds differences that are too small to act on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from stepkit.model.binning import MAX_CODES, pool_rare
from stepkit.model.statistics import compute_ks_test, compute_total_variation

MIN_SAMPLE = 20
MAX_EXACT_ROWS = 1_000
"""P-values are exact if the smaller sample has at most this many rows."""

NO_TEST = "nothing to compare"


@dataclass(frozen=True)
class ColumnComparison:
    """Comparison of two samples of a column. `score` is the effect size, from 0 (equal) to 1 (no overlap)."""

    column: str
    test: str
    score: float
    p_value: float
    threshold: float
    p_threshold: float
    drifted: bool
    reference_mean: float | None
    current_mean: float | None
    change: str = ""
    """The change in words, such as "median 2,100 -> 210,000"."""


def compare_column(
    column: str, reference: pd.Series, current: pd.Series, coded: bool, p_threshold: float, min_effect: float
) -> ColumnComparison:
    """Compare two samples of a column, without missing values (quality.py judges their share)."""
    before, after = reference.dropna(), current.dropna()
    test, score, p_value = NO_TEST, 0.0, 1.0
    if min(len(before), len(after)) >= MIN_SAMPLE:
        test, score, p_value = compare_shares(before, after) if coded else compare_order(before, after)
    drifted = p_value <= p_threshold and score >= min_effect
    means = compute_mean(reference), compute_mean(current)
    change = describe_change(before, after, coded) if drifted else ""
    return ColumnComparison(column, test, score, p_value, min_effect, p_threshold, drifted, *means, change)


def describe_change(before: pd.Series, after: pd.Series, coded: bool) -> str:
    """Return the strongest change in words: the median of amounts (the mean if it is equal), or the share of a code."""
    if coded:
        shares = [side.value_counts(normalize=True) for side in (before, after)]
        changes = pd.concat(shares, axis=1, keys=["before", "after"]).fillna(0.0)
        code = (changes["after"] - changes["before"]).abs().idxmax()
        name = f"{code:g}" if isinstance(code, float) else str(code)
        return f"code {name}: {changes['before'][code]:.1%} -> {changes['after'][code]:.1%}"
    medians, means = (before.median(), after.median()), (before.mean(), after.mean())
    name, (first, second) = ("mean", means) if medians[0] == medians[1] else ("median", medians)
    return f"{name} {first:,.6g} -> {second:,.6g}"


def compute_mean(values: pd.Series) -> float | None:
    """Return the mean, or None if the values are not numbers, all missing, or have no finite mean."""
    if not pd.api.types.is_numeric_dtype(values) or values.isna().all():
        return None
    mean = float(values.mean())
    return mean if math.isfinite(mean) else None


def is_coded(reference: pd.Series, declared: bool) -> bool:
    """Return True for codes (compared by their shares), False for amounts (compared by their order)."""
    return declared or not pd.api.types.is_numeric_dtype(reference) or reference.nunique() <= MAX_CODES


def compare_order(reference: pd.Series, current: pd.Series) -> tuple[str, float, float]:
    """Return test, score and p-value of amounts. The score is the largest distance of the distribution functions."""
    return "Kolmogorov-Smirnov", *compute_ks_test(reference.to_numpy(float), current.to_numpy(float))


def compare_shares(reference: pd.Series, current: pd.Series) -> tuple[str, float, float]:
    """Return test, score and p-value of codes. The score is the total variation: the share of rows with a changed code.

    Rare codes are pooled. Two codes in few rows are compared by Fisher's exact test, all others by chi-square.
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
    """Return the rows per code (k x 2: reference, current), rarest first; rare codes are pooled."""
    return pool_rare(pd.concat([reference.value_counts(), current.value_counts()], axis=1).fillna(0.0).to_numpy(float))

"""Bins of a column or score, and the credit figures computed on them: weight of evidence, IV and PSI.

Numbers have up to ten bins of about equally many rows, with equal values in one bin. Quantile bins do not depend on the
target, so one set of bins serves both the information value and the stability index, and the information value is not
raised by fitting the bins to the target. Codes, and numbers with few values, have one bin per value. Missing values
are a bin. Source: N. Siddiqi, Credit Risk Scorecards, Wiley, 2006, chapter 6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from stepkit.table.columns import Column
from stepkit.table.tables import to_plain_text

Floats = npt.NDArray[np.float64]

MOST_BINS = 10
MIN_ROWS_PER_BIN = 5
SCORE_DIGITS = 6
MAX_CODES = 12
"""A numeric column with at most this many distinct values has one bin per value."""

MIN_EXPECTED = 5.0
"""Smallest expected count of a cell in a contingency table; rarer codes are pooled (Cochran, Biometrics 10, 1954)."""

MIN_EXPECTED_OF_INDEX = 20.0
"""Smallest expected count of a bin of a stability index, whose logarithm makes an almost empty bin weigh too much."""

OTHER, MISSING = "other values", "missing"
"""Labels of the last two bins. A value that the reference does not contain is an other value."""

EMPTY_CELL = 0.5
"""Rows that count instead of 0 in the logarithm of a ratio. Source: SAS/STAT, PROC HPBIN, option WOEADJUST=."""


@dataclass(frozen=True)
class Bins:
    """Bins of a column: intervals that end at each of `edges` (included), or one bin for each of `codes`.

    The bins of the values come first, then the bin of other values (always empty for intervals) and the bin of missing
    values.
    """

    edges: list[float] | None = None
    codes: list[str] | None = None

    def count(self, values: pd.Series) -> Floats:
        """Return (k,) the rows in each bin."""
        return self.sum_by_bin(self.assign(values), None)

    def sum_by_bin(self, bins: npt.NDArray[np.intp], weights: npt.ArrayLike | None) -> Floats:
        """Return (k,) the sum of the (n,) weights in each bin; None: the number of rows."""
        return np.bincount(bins, weights, len(self.list_labels())).astype(float)

    def assign(self, values: pd.Series) -> npt.NDArray[np.intp]:
        """Return (n,) the place of each value's bin. A text in intervals counts as missing."""
        if self.codes is None:
            return self._assign_to_intervals(values)
        places, distinct = pd.factorize(values)  # a column of codes has many rows but few distinct values
        texts = to_plain_text(pd.Series(distinct)).fillna("").to_numpy(dtype=object)
        bins = pd.Index(self.codes, dtype=object).get_indexer(pd.Index(texts, dtype=object))
        missing = len(self.codes) + 1
        bins = np.where(texts == "", missing, np.where(bins < 0, len(self.codes), bins))
        return np.where(places < 0, missing, np.append(bins, missing)[places])

    def _assign_to_intervals(self, values: pd.Series) -> npt.NDArray[np.intp]:
        edges = self.edges or []
        numbers = _to_doubles(values)
        return np.where(np.isnan(numbers), len(edges) + 2, np.searchsorted(np.array(edges), numbers))

    def list_labels(self, get_label: Callable[[str], str] = str) -> list[str]:
        """Return the names of the bins; `get_label` returns the display name of a code."""
        if self.codes is not None:
            names = [f"{code} ({label})" if (label := get_label(code)) != code else code for code in self.codes]
        elif self.edges:
            ends = [f"{edge:,.0f}" if edge.is_integer() else f"{edge:,.6g}" for edge in self.edges]
            middle = [f"over {low} up to {high}" for low, high in pairwise(ends)]
            names = [f"up to {ends[0]}", *middle, f"over {ends[-1]}"]
        else:
            names = ["all values"]
        return [*names, OTHER, MISSING]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)


def make_bins(values: pd.Series, column: Column | None = None) -> Bins:
    """Return the bins of n values; without a description of the column, its type decides."""
    is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    is_coded = not is_number or (column is not None and column.role == "categorical")
    if not is_coded:
        numbers = _to_doubles(values)
        numbers = np.sort(numbers[np.isfinite(numbers)])
        distinct = int((np.diff(numbers) > 0).sum()) + min(len(numbers), 1)
        if distinct > min(MAX_CODES, max(1, len(numbers) // MIN_ROWS_PER_BIN)):
            return Bins(edges=_compute_edges(numbers))
    codes = to_plain_text(pd.Series(values.dropna().unique())).dropna().unique()
    texts = [str(code) for code in codes if code != ""]
    return Bins(codes=sorted(texts, key=_to_sort_key))


def make_score_bins(scores: npt.ArrayLike) -> Bins:
    """Return the intervals of n scores (NaN where unknown), which end halfway between two scores.

    Rounding by another implementation of the model therefore moves no score into another bin, even if many are equal.
    """
    distinct, rows = np.unique(np.round(np.asarray(scores, float), SCORE_DIGITS), return_counts=True, equal_nan=True)
    finite = np.isfinite(distinct)
    distinct, rows = distinct[finite], rows[finite]
    ends = np.searchsorted(distinct, _compute_edges(np.repeat(distinct, rows)))
    return Bins(edges=[float(edge) for edge in (distinct[ends] + distinct[ends + 1]) / 2])


def _compute_edges(numbers: Floats) -> list[float]:
    """Return the inner edges of at most MOST_BINS bins of n sorted numbers: quantiles, which are values of the sample.

    No bin is empty, because a quantile that equals the largest value is not an edge.
    """
    bins = min(MOST_BINS, len(numbers) // MIN_ROWS_PER_BIN)
    if bins < 2:
        return []
    edges = np.unique(np.quantile(numbers, np.arange(1, bins) / bins, method="inverted_cdf"))
    return [float(edge) for edge in edges if edge < numbers[-1]]


def _to_doubles(values: pd.Series) -> Floats:
    numbers = values if pd.api.types.is_numeric_dtype(values) else pd.to_numeric(values.astype(object), "coerce")
    return numbers.to_numpy(dtype=float, na_value=np.nan)


def _to_sort_key(code: str) -> tuple[bool, float, str]:
    """Return a key that sorts numbers by value, before texts."""
    try:
        return False, float(code), code
    except ValueError:
        return True, 0.0, code


@dataclass(frozen=True)
class Evidence:
    """Evidence of the k bins of a column about the target.

    Attributes:
        bins: the bins; the arrays (k,) have their order.
        rows: rows per bin.
        defaults: rows of class 1 per bin.
        woe: weight of evidence, ln(share of class 0 / share of class 1); positive: fewer defaults than on average.
        values: information value of each bin.
        chance: the value that a column without any relation to the target exceeds in 5 % of the samples of this size.
    """

    bins: Bins
    rows: Floats
    defaults: Floats
    woe: Floats
    values: Floats
    chance: float

    @property
    def value(self) -> float:
        """Information value of the column."""
        return float(self.values.sum())


def compute_evidence(values: pd.Series, labels: np.ndarray, column: Column | None = None) -> Evidence:
    """Return the weights of evidence and the information value of n values, given (n,) labels of both classes.

    A column with one value has the information value 0. Source of the formulas, and of the half row that replaces an
    empty cell: SAS/STAT, PROC HPBIN, Computing the Weight of Evidence and Information Value.
    """
    bins = make_bins(values, column)
    places = bins.assign(values)
    rows, defaults = bins.sum_by_bin(places, None), bins.sum_by_bin(places, labels)
    goods = rows - defaults
    has_empty_cell = (goods == 0) | (defaults == 0)
    added = np.where(has_empty_cell, EMPTY_CELL, 0.0)
    totals = goods.sum(), defaults.sum()
    woe = np.where(rows > 0, np.log((goods + added) / totals[0]) - np.log((defaults + added) / totals[1]), 0.0)
    iv = (goods / totals[0] - defaults / totals[1]) * woe
    filled = int((rows > 0).sum())
    return Evidence(bins, rows, defaults, woe, iv, compute_index_limit(filled, *totals, 0.05))


@dataclass(frozen=True)
class Stability:
    """Population stability index (PSI) of two samples; `value` and `threshold` are None if it cannot be computed.

    Attributes:
        threshold: the index of two samples of the same population exceeds it with the probability of the test's level.
        bins: compared bins.
        reason: reason why the index is missing, or "".
    """

    value: float | None
    threshold: float | None
    bins: int
    reason: str = ""


def compute_psi(reference: Floats, current: Floats) -> float:
    """Return the population stability index sum((q - p) ln(q / p)) of the rows per bin (k,) of two samples.

    Bins that are empty on both sides do not count. A bin that is empty on one side counts as half a row.
    """
    filled = (reference > 0) | (current > 0)
    before, after = (np.maximum(rows[filled], EMPTY_CELL) / rows.sum() for rows in (reference, current))
    return float(((after - before) * np.log(after / before)).sum())


def compute_stability(reference: Floats, current: Floats, level: float) -> Stability:
    """Return the PSI of two samples with its threshold at `level`, after rare bins are pooled.

    The distribution of the index is that of large samples, where the index equals Pearson's chi-square of the same
    bins, divided by N and M. In small samples the index is larger, so the threshold rises by the ratio of the two.

    Args:
        reference: (k,) rows per bin.
        current: (k,) rows per bin.
        level: probability of an index above the threshold if nothing has changed.
    """
    if not (reference.sum() and current.sum()):
        return Stability(None, None, 0, "no rows to compare")
    counts = pool_rare(np.column_stack([reference, current]), MIN_EXPECTED_OF_INDEX)
    if len(counts) < 2:
        if ((reference > 0) | (current > 0)).sum() > 1:
            few = f"too few rows: fewer than two bins have {MIN_EXPECTED_OF_INDEX:g} expected rows"
            return Stability(None, None, 1, few)
        return Stability(0.0, 0.0, 1)
    totals = counts.sum(axis=0)
    value = compute_psi(counts[:, 0], counts[:, 1])
    shares = counts / totals
    pearson = float(((shares[:, 1] - shares[:, 0]) ** 2 / (counts.sum(axis=1) / totals.sum())).sum())
    limit = compute_index_limit(len(counts), totals[0], totals[1], level)
    return Stability(value, limit * max(1.0, value / pearson if pearson else 1.0), len(counts))


def compute_index_limit(bins: int, first: float, second: float, level: float) -> float:
    """Return the limit that an index of two samples of one population exceeds with the probability `level`.

    With B bins and samples of N and M rows, the index is distributed as (1/N + 1/M) chi-square(B - 1). Sources:
    B. Yurdakul, Statistical Properties of Population Stability Index, Western Michigan University, 2018; Yurdakul,
    Naranjo, Journal of Risk Model Validation 14(4), 2020. The information value is the same index of goods and bads.
    """
    return float(stats.chi2.isf(level, bins - 1) * (1 / first + 1 / second)) if bins > 1 else 0.0


def pool_rare(counts: Floats, min_expected: float = MIN_EXPECTED) -> Floats:
    """Return the rows per bin of two samples (k x 2), rarest first; rare bins are pooled up to `min_expected`."""
    filled = counts[counts.sum(axis=1) > 0]
    table = filled[np.argsort(filled.sum(axis=1), kind="stable")]
    expected = table.sum(axis=1) * table.sum(axis=0).min() / table.sum()
    too_few = int((np.cumsum(expected) < min_expected).sum()) if expected[0] < min_expected else 0
    pooled: Floats = np.vstack([table[: too_few + 1].sum(axis=0), table[too_few + 1 :]])
    return pooled

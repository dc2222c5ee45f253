"""Bins of a column, weight of evidence, information value and stability index: known answers and bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2_contingency

from stepkit.model.binning import (
    MISSING,
    MOST_BINS,
    OTHER,
    compute_evidence,
    compute_index_limit,
    compute_psi,
    compute_stability,
    make_bins,
    make_score_bins,
    pool_rare,
)
from stepkit.table.columns import Column

CODES = Column(role="categorical")

TABLE = pd.DataFrame(
    {
        "home": ["own", "own", "own", "own", "own", "own", "rent", "rent", "rent", "rent", None, None],
        "default": [0, 0, 0, 0, 0, 1, 0, 1, 1, 1, 0, 0],
    }
)
"""8 rows of class 0 and 4 of class 1: own 5 and 1, rent 1 and 3, missing 2 and 0."""


def test_the_information_value_of_twelve_rows_is_that_computed_by_hand() -> None:
    evidence = compute_evidence(TABLE["home"], TABLE["default"].to_numpy(), CODES)
    assert evidence.bins.list_labels() == ["own", "rent", OTHER, MISSING]
    assert evidence.rows.tolist() == [6, 4, 0, 2]
    assert evidence.defaults.tolist() == [1, 3, 0, 0]
    own, rent = np.log((5 / 8) / (1 / 4)), np.log((1 / 8) / (3 / 4))
    missing = np.log((2.5 / 8) / (0.5 / 4))  # no default: half a row is added to both counts
    assert evidence.woe == pytest.approx([own, rent, 0, missing])
    value = (5 / 8 - 1 / 4) * own + (1 / 8 - 3 / 4) * rent + (2 / 8 - 0) * missing
    assert evidence.value == pytest.approx(value) == pytest.approx(1.6925, abs=5e-5)


def test_the_stability_index_of_twelve_rows_is_that_computed_by_hand() -> None:
    earlier, later = np.array([6.0, 4.0, 0.0, 2.0]), np.array([3.0, 6.0, 0.0, 3.0])
    by_hand = (3 - 6) / 12 * np.log(3 / 6) + (6 - 4) / 12 * np.log(6 / 4) + (3 - 2) / 12 * np.log(3 / 2)
    assert compute_psi(earlier, later) == pytest.approx(by_hand) == pytest.approx(0.27465, abs=5e-6)
    half_a_row = (0.5 - 6) / 12 * np.log(0.5 / 6) + (12 - 6) / 12 * np.log(2)
    assert compute_psi(np.array([6.0, 6.0]), np.array([0.0, 12.0])) == pytest.approx(half_a_row)


@pytest.mark.parametrize("values", [pd.Series(np.arange(1000.0) ** 2), pd.Series(list("abca") * 250)])
def test_the_index_of_two_equal_samples_is_0(values: pd.Series) -> None:
    bins = make_bins(values)
    assert compute_stability(bins.count(values), bins.count(values.sample(frac=1, random_state=1)), 0.01).value == 0


def test_the_index_of_samples_with_the_same_shares_is_0_whatever_their_sizes() -> None:
    assert compute_psi(np.array([10.0, 30.0, 0.0]), np.array([100.0, 300.0, 0.0])) == pytest.approx(0)


def test_equal_values_share_a_bin_and_no_bin_is_empty() -> None:
    values = pd.Series([0.0] * 400 + list(np.linspace(1, 900, 600)))
    bins = make_bins(values)
    assert bins.edges is not None
    assert len(bins.edges) < MOST_BINS
    counts = bins.count(values)
    assert counts[0] == 400
    assert counts[:-2].min() > 0
    assert counts[-2:].tolist() == [0, 0]
    assert bins.list_labels()[0] == "up to 0"


def test_bins_do_not_depend_on_the_order_of_the_rows() -> None:
    values = pd.Series(np.random.default_rng(3).normal(size=500))
    assert make_bins(values) == make_bins(values.sample(frac=1, random_state=4))


def test_numbers_with_few_values_have_a_bin_for_each_and_another_value_is_not_one_of_them() -> None:
    bins = make_bins(pd.Series([-1, 0, 1, 2] * 50))
    assert bins.list_labels() == ["-1", "0", "1", "2", OTHER, MISSING]
    assert bins.count(pd.Series([0.0, 9.0, None])).tolist() == [0, 1, 0, 0, 1, 1]


def test_a_code_is_the_same_as_number_and_as_text() -> None:
    bins = make_bins(pd.Series([1, 2, 2]), CODES)
    for values in (pd.Series([1.0, np.nan]), pd.Series(["1", ""]), pd.Series(["1", None], dtype="string")):
        assert bins.count(values).tolist() == [1, 0, 0, 1]


def test_labels_name_codes_and_intervals() -> None:
    bins = make_bins(pd.Series([2, 1]), CODES)
    assert bins.list_labels(lambda code: {"1": "male"}.get(code, code))[:2] == ["1 (male)", "2"]
    numbers = make_bins(pd.Series(np.arange(10_000, 60_000, 1000)))
    assert numbers.list_labels()[:2] == ["up to 14,000", "over 14,000 up to 19,000"]


@pytest.mark.parametrize(
    "values", [pd.Series([7.0] * 12), pd.Series(["x"] * 12), pd.Series([None] * 12), pd.Series([np.nan] * 12)]
)
def test_a_column_with_one_value_or_none_has_the_information_value_0(values: pd.Series) -> None:
    evidence = compute_evidence(values, TABLE["default"].to_numpy())
    assert evidence.value == 0
    assert evidence.chance == 0
    assert compute_stability(evidence.rows, evidence.rows, 0.01).value == 0


def test_ten_rows_give_figures() -> None:
    evidence = compute_evidence(pd.Series(np.arange(10.0)), np.array([0, 1] * 5))
    assert evidence.rows[:-2].tolist() == [5, 5]
    assert np.isfinite(evidence.woe).all()


def test_infinite_numbers_are_in_the_outer_bins() -> None:
    bins = make_bins(pd.Series([*range(100), np.inf, -np.inf]))
    assert bins.edges is not None
    assert np.isfinite(bins.edges).all()
    assert bins.count(pd.Series([-np.inf, np.inf, np.nan])).nonzero()[0].tolist() == [0, 9, 11]


def test_an_index_that_cannot_be_computed_has_a_reason() -> None:
    none = compute_stability(np.array([5.0, 5.0]), np.array([0.0, 0.0]), 0.01)
    assert (none.value, none.threshold, none.reason) == (None, None, "no rows to compare")
    few = compute_stability(np.array([500.0, 500.0]), np.array([5.0, 5.0]), 0.01)
    assert few.value is None
    assert few.reason.startswith("too few rows")


def test_a_code_that_the_reference_does_not_have_raises_the_index() -> None:
    bins = make_bins(pd.Series(["a", "b"] * 5000), CODES)
    index = compute_stability(
        bins.count(pd.Series(["a", "b"] * 5000)), bins.count(pd.Series(["a", "b", "c"] * 300)), 0.01
    )
    assert index.value is not None
    assert index.threshold is not None
    assert index.value > 10 * index.threshold


def test_a_column_without_any_value_in_the_window_raises_the_index() -> None:
    values = pd.Series(np.arange(5000.0))
    bins = make_bins(values)
    index = compute_stability(bins.count(values), bins.count(pd.Series([np.nan] * 2000)), 0.01)
    assert index.value is not None
    assert index.value > 1


def test_rounding_moves_no_score_into_another_bin() -> None:
    """An isotonic calibration maps many rows to one probability, which ONNX computes in single precision."""
    scores = np.repeat([0.0512345678, 0.1, 0.1999999, 0.3, 0.55, 0.7], [700, 300, 900, 500, 400, 200])
    bins = make_score_bins(scores)
    assert bins.count(pd.Series(scores)).tolist() == bins.count(pd.Series(scores.astype(np.float32) + 2e-7)).tolist()
    assert len(bins.edges or []) == 5
    assert make_score_bins([np.nan, 0.5]).edges == []


def draw_counts(shares: list[float], rows: int, draws: int, random: np.random.Generator) -> np.ndarray:
    counts: np.ndarray = random.multinomial(rows, np.array(shares) / np.sum(shares), size=draws).astype(float)
    return counts


@pytest.mark.parametrize(
    ("shares", "rows"),
    [([1] * 10, 200), ([1] * 10, 2000), ([50, 40, 9, 1], 2000), ([80, 10, 10], 200)],
    ids=["ten bins, 200 rows", "ten bins", "a rare bin", "two small bins, 200 rows"],
)
def test_an_unchanged_population_exceeds_the_threshold_as_often_as_the_level(shares: list[float], rows: int) -> None:
    random, level, draws = np.random.default_rng(5), 0.05, 1500
    pairs = zip(draw_counts(shares, 21_000, draws, random), draw_counts(shares, rows, draws, random), strict=True)
    results = [compute_stability(before, after, level) for before, after in pairs]
    rate = np.mean([result.value > result.threshold for result in results])  # type: ignore[operator]  # none is None
    assert 0.6 * level < rate < level + 3 * np.sqrt(level / draws)


def test_an_almost_empty_bin_alone_does_not_exceed_the_threshold() -> None:
    """Its logarithm alone would, although Pearson's test of the same counts finds nothing."""
    before, after = np.full(10, 2100.0), np.array([4.0, *[24.0] * 9])
    assert chi2_contingency(np.column_stack([before, after]), correction=False).pvalue > 0.05
    index = compute_stability(before, after, 0.01)
    assert index.value is not None
    assert index.threshold is not None
    assert compute_index_limit(10, 21_000, 220, 0.01) < index.value < index.threshold


def test_the_information_value_by_chance_is_exceeded_in_five_percent() -> None:
    random = np.random.default_rng(6)
    values = pd.Series(random.normal(size=2000))
    evidence = [compute_evidence(values, random.binomial(1, 0.3, 2000)) for _ in range(300)]
    assert 0.02 < np.mean([column.value > column.chance for column in evidence]) < 0.09


def test_rare_bins_are_pooled_and_empty_ones_dropped() -> None:
    counts = np.array([[1.0, 0.0], [0.0, 0.0], [2.0, 8.0], [90.0, 92.0]])
    assert pool_rare(counts, 5).tolist() == [[3.0, 8.0], [90.0, 92.0]]

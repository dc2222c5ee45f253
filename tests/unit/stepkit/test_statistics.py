"""stepkit.model.statistics: each statistic against its definition, a manual count or another implementation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from stepkit.model.statistics import (
    Interval,
    assign_bins,
    compute_auc_difference,
    compute_auc_interval,
    compute_calibration_error,
    compute_ks_test,
    compute_sidak_level,
    compute_total_variation,
)


@pytest.mark.parametrize(
    ("alpha", "tests", "level"),
    [(0.05, 1, 0.05), (0.05, 0, 0.05), (0.19, 2, 0.1), (0.271, 3, 0.1), (0.05, 20, 0.00256137)],
)
def test_sidak_as_computed_by_hand(alpha: float, tests: int, level: float) -> None:
    assert compute_sidak_level(alpha, tests) == pytest.approx(level, abs=1e-8)  # 1 - 0.9 ** 2 = 0.19


def test_kolmogorov_smirnov_as_counted_by_hand() -> None:
    distance, p_value = compute_ks_test(np.array([1, 2, 3, 4]), np.array([3, 4, 5, 6]))
    assert distance == 0.5  # at 2: half of the first sample, none of the second
    assert p_value == pytest.approx(54 / 70)  # 16 of the 70 orders of 4 and 4 values have a smaller distance


def test_total_variation_is_the_share_that_would_have_to_move() -> None:
    assert compute_total_variation(np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.3, 0.3])) == pytest.approx(0.1)


def test_calibration_bins_hold_equally_many_rows_whatever_their_order() -> None:
    probability = np.random.default_rng(1).beta(1, 8, 1000)
    bins = assign_bins(probability)
    assert np.bincount(bins).tolist() == [100] * 10
    assert (np.diff(bins[np.argsort(probability)]) >= 0).all()
    assert assign_bins(probability[::-1]).tolist() == bins[::-1].tolist()


def test_equal_probabilities_share_a_bin() -> None:
    assert assign_bins(np.array([0.7] * 6 + [0.1] * 2 + [0.9] * 2)).tolist() == [5] * 6 + [1] * 2 + [9] * 2


def test_the_calibration_error_weighs_each_bin_by_its_rows() -> None:
    """Three rows at 0.25, one of them positive; one positive row at 0.95."""
    labels, probability = np.array([0, 1, 0, 1]), np.array([0.25, 0.25, 0.25, 0.95])
    assert compute_calibration_error(labels, probability) == pytest.approx(3 / 4 * abs(0.25 - 1 / 3) + 1 / 4 * 0.05)


def make_two_models(seed: int, decimals: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = (random.random(150) < 0.25).astype(int)
    ours = random.normal(1.1 * labels)
    return labels, ours.round(decimals), (ours + random.normal(0, 0.8, 150)).round(decimals)


def compute_delong_by_definition(labels: np.ndarray, *models: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (k,) areas and their (k, k) covariance, from every pair of a positive and a negative."""

    def kernel(scores: np.ndarray) -> np.ndarray:
        above, below = scores[labels == 1][:, None], scores[labels == 0][None, :]
        ordered: np.ndarray = (above > below) + 0.5 * (above == below)
        return ordered

    pairs = np.array([kernel(scores) for scores in models])
    _, positives, negatives = pairs.shape
    covariance = np.cov(pairs.mean(axis=2)) / positives + np.cov(pairs.mean(axis=1)) / negatives
    return pairs.mean(axis=(1, 2)), covariance


@pytest.mark.parametrize("decimals", [12, 1], ids=["no ties", "many ties"])
def test_delong_matches_its_definition(decimals: int) -> None:
    labels, first, second = make_two_models(10, decimals)
    areas, covariance = compute_delong_by_definition(labels, first, second)
    alone, paired = compute_auc_interval(labels, first, 0.9), compute_auc_difference(labels, first, second, 0.9)
    contrast = np.array([1, -1])
    expected = (
        (alone, areas[0], covariance[0, 0] ** 0.5),
        (paired, areas[0] - areas[1], (contrast @ covariance @ contrast) ** 0.5),
    )
    for interval, value, error in expected:
        reach = stats.norm.ppf(0.95) * error
        assert (interval.value, interval.low, interval.high) == pytest.approx((value, value - reach, value + reach))
        assert interval.compute_standard_error(0.9) == pytest.approx(error)


@pytest.mark.parametrize("labels", [[0, 0, 1], [1, 1, 1]])
def test_delong_needs_two_rows_of_each_class(labels: list[int]) -> None:
    interval = compute_auc_difference(np.array(labels), np.array([0.1, 0.2, 0.3]), np.array([0.2, 0.1, 0.3]))
    assert np.isnan([interval.value, interval.low, interval.high]).all()


def test_an_interval_is_written_by_the_names_of_its_ends() -> None:
    assert Interval(0.5, 0.4, 0.6).to_dict() == {"value": 0.5, "low": 0.4, "high": 0.6}

"""Realised and estimated performance: coverage of the intervals in simulated worlds with a known truth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from drift.compare.performance import (
    Calibration,
    ScoredRows,
    compute_calibration,
    compute_lower_limit,
    compute_realised_auc,
    estimate_auc,
)
from stepkit.model.statistics import Interval, compute_calibration_error

WINDOWS = 100
MORE_LIKELY = 1.3
"""Excess of the log-odds, as caused by balanced class weights."""


def simulate(rows: int, seed: int, shift: float = 0.0) -> ScoredRows:
    """Return scores with the right order but without calibration, and labels drawn by the true probability."""
    random = np.random.default_rng([seed, rows])
    odds = random.normal(-1.5 + shift, 1.1, rows)
    return ScoredRows(expit(0.7 * odds + MORE_LIKELY), (random.random(rows) < expit(odds)).astype(float))


def compute_auc(window: ScoredRows) -> float:
    return float(roc_auc_score(window.label, window.probability))


def compute_coverage(
    find_interval: Callable[[int, ScoredRows], Interval | None], truth: float | None, shift: float
) -> float:
    """Return the share of windows whose interval covers the truth; None: the AUC of the window's labels."""
    covered = 0
    for seed in range(WINDOWS):
        window = simulate(2_000, seed, shift)
        interval = find_interval(seed, window)
        assert interval is not None
        covered += interval.low <= (compute_auc(window) if truth is None else truth) <= interval.high
    return covered / WINDOWS


def test_calibration_corrects_for_balanced_class_weights() -> None:
    window = simulate(50_000, 2)
    chance = Calibration(simulate(9_000, 1))(window.probability)
    assert compute_calibration_error(window.label, window.probability) > 0.2
    assert compute_calibration_error(window.label, chance) < 0.015


@pytest.mark.slow
@pytest.mark.parametrize(("shift", "calibrated"), [(0.0, False), (0.7, False), (0.7, True)])
def test_the_interval_of_the_estimate_has_its_nominal_coverage(shift: float, calibrated: bool) -> None:
    """Also under a shift of the inputs. With 95 % coverage, 89 to 99 of 100 windows are covered, except once in 60."""

    def estimate(seed: int, window: ScoredRows) -> Interval | None:
        reference = simulate(9_000, seed + 1_000)
        if calibrated:
            return estimate_auc(to_calibrated(reference), to_calibrated(window).probability, seed)
        return estimate_auc(reference, window.probability, seed)

    assert 0.89 <= compute_coverage(estimate, None, shift) <= 0.99


def test_the_interval_of_the_realised_auc_has_its_nominal_coverage() -> None:
    assert (
        0.89
        <= compute_coverage(lambda _, window: compute_realised_auc(window), compute_auc(simulate(400_000, 9)), 0.0)
        <= 0.99
    )


def test_the_realised_auc_uses_the_labelled_rows() -> None:
    window = simulate(3_000, 3)
    interval = compute_realised_auc(
        ScoredRows(window.probability, np.where(np.arange(3_000) < 1_000, window.label, np.nan))
    )
    assert interval is not None
    assert interval.value == pytest.approx(compute_auc(ScoredRows(window.probability[:1_000], window.label[:1_000])))


def test_labels_of_one_class_give_no_performance() -> None:
    window = simulate(500, 4)
    negatives, unknown = (ScoredRows(window.probability, np.full(500, label)) for label in (0.0, np.nan))
    assert compute_realised_auc(negatives) is None
    assert compute_realised_auc(unknown) is None
    assert estimate_auc(negatives, window.probability) is None
    assert compute_calibration(window, unknown) == {}


def test_the_same_window_gives_the_same_estimate() -> None:
    reference, current = simulate(9_000, 5), simulate(2_000, 6).probability
    assert estimate_auc(reference, current) == estimate_auc(reference, current)


def test_calibration_of_the_labelled_rows_is_reported() -> None:
    reference, window = simulate(9_000, 7), simulate(3_000, 8)
    quality = compute_calibration(reference, window)
    assert quality["expected_share"] == pytest.approx(quality["realised_share"], abs=0.03)
    inverted = compute_calibration(reference, ScoredRows(window.probability, 1.0 - window.label))
    assert inverted["calibration_error"] > 5 * quality["calibration_error"]


@pytest.mark.parametrize(("half", "alarms"), [(0.026, True), (0.1, False)])
def test_a_lower_auc_alarms_when_it_is_significant(half: float, alarms: bool) -> None:
    limit = compute_lower_limit(Interval(0.77, 0.76, 0.78), Interval(0.70, 0.70 - half, 0.70 + half), 0.02, 0.002)
    assert (limit > 0.70) == alarms


def to_calibrated(window: ScoredRows) -> ScoredRows:
    """Return the rows of the same clients as a calibrated model scores them."""
    odds = (logit(window.probability) - MORE_LIKELY) / 0.7
    return ScoredRows(expit(odds), window.label, is_calibrated=True)


def test_a_calibrated_probability_is_used_as_it_is() -> None:
    reference = to_calibrated(simulate(9_000, 1))
    probability = np.array([0.01, 0.2, 0.7])
    assert Calibration(reference)(probability) == pytest.approx(probability)
    drawn = Calibration(reference).draw(probability, 2_000, np.random.default_rng(1))
    assert drawn.mean(axis=0) == pytest.approx(probability, abs=0.01)
    assert 0.003 < drawn[:, 1].std() < 0.02, "9,000 rows leave some uncertainty"


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_calibrated_probability_may_be_certain(value: float) -> None:
    reference = to_calibrated(simulate(2_000, 1))
    certain = ScoredRows(np.where(np.arange(2_000) < 50, value, reference.probability), reference.label, True)
    estimate = estimate_auc(certain, certain.probability)
    assert estimate is not None
    assert 0.5 < estimate.low < estimate.high < 1.0


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_the_estimate_of_a_calibrated_model_is_as_accurate_as_with_a_fit(shift: float) -> None:
    def compute_error(calibrated: bool, seed: int) -> float:
        reference, window = simulate(9_000, seed + 1_000), simulate(2_000, seed, shift)
        estimate = estimate_auc(to_calibrated(reference) if calibrated else reference, used(window, calibrated), seed)
        assert estimate is not None
        return abs(estimate.value - compute_auc(window))

    def used(window: ScoredRows, calibrated: bool) -> np.ndarray:
        return to_calibrated(window).probability if calibrated else window.probability

    fitted, direct = (np.mean([compute_error(calibrated, seed) for seed in range(20)]) for calibrated in (False, True))
    assert direct <= fitted * 1.02


def test_the_realised_calibration_of_a_calibrated_model_is_that_of_its_own_probability() -> None:
    window = to_calibrated(simulate(3_000, 8))
    quality = compute_calibration(to_calibrated(simulate(9_000, 7)), window)
    assert quality["brier_score"] == pytest.approx(np.mean((window.probability - window.label) ** 2), abs=1e-9)
    assert quality["expected_share"] == pytest.approx(window.probability.mean(), abs=1e-9)

"""Performance by labels and without them: intervals hold what they promise, in simulated worlds with a known truth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import expit
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
"""Scores of balanced class weights: log-odds that are too high by this."""


def world(rows: int, seed: int, shift: float = 0.0) -> ScoredRows:
    """Scores that order rightly and are not calibrated, and labels by the true chance."""
    random = np.random.default_rng([seed, rows])
    odds = random.normal(-1.5 + shift, 1.1, rows)
    return ScoredRows(expit(0.7 * odds + MORE_LIKELY), (random.random(rows) < expit(odds)).astype(float))


def auc(window: ScoredRows) -> float:
    return float(roc_auc_score(window.label, window.probability))


def share_held(interval_of: Callable[[int, ScoredRows], Interval | None], truth: float | None, shift: float) -> float:
    """In how many of the simulated windows the interval holds the truth; None: the AUC of the window's own labels."""
    held = 0
    for seed in range(WINDOWS):
        window = world(2_000, seed, shift)
        found = interval_of(seed, window)
        assert found is not None
        held += found.low <= (auc(window) if truth is None else truth) <= found.high
    return held / WINDOWS


def test_calibration_repairs_what_balanced_weights_bend() -> None:
    window = world(50_000, 2)
    chance = Calibration(world(9_000, 1))(window.probability)
    assert compute_calibration_error(window.label, window.probability) > 0.2
    assert compute_calibration_error(window.label, chance) < 0.015


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_the_estimate_without_labels_holds_the_realised_auc_as_often_as_it_says(shift: float) -> None:
    """Also under a shift of the clients. Of 100 windows 95 % are 89 to 99 but for a chance in 60."""

    def estimated(seed: int, window: ScoredRows) -> Interval | None:
        return estimate_auc(world(9_000, seed + 1_000), window.probability, seed)

    assert 0.89 <= share_held(estimated, None, shift) <= 0.99


def test_the_interval_of_the_realised_auc_holds_the_true_one_as_often_as_it_says() -> None:
    assert 0.89 <= share_held(lambda _, window: compute_realised_auc(window), auc(world(400_000, 9)), 0.0) <= 0.99


def test_the_realised_auc_is_of_the_rows_with_a_label() -> None:
    window = world(3_000, 3)
    found = compute_realised_auc(
        ScoredRows(window.probability, np.where(np.arange(3_000) < 1_000, window.label, np.nan))
    )
    assert found is not None
    assert found.value == pytest.approx(auc(ScoredRows(window.probability[:1_000], window.label[:1_000])))


def test_labels_of_one_class_tell_nothing() -> None:
    window = world(500, 4)
    negatives, unknown = (ScoredRows(window.probability, np.full(500, label)) for label in (0.0, np.nan))
    assert compute_realised_auc(negatives) is None
    assert compute_realised_auc(unknown) is None
    assert estimate_auc(negatives, window.probability) is None
    assert compute_calibration(window, unknown) == {}


def test_the_same_window_gives_the_same_estimate() -> None:
    known, current = world(9_000, 5), world(2_000, 6).probability
    assert estimate_auc(known, current) == estimate_auc(known, current)


def test_calibration_of_the_labelled_rows_is_reported() -> None:
    known, window = world(9_000, 7), world(3_000, 8)
    quality = compute_calibration(known, window)
    assert quality["expected_share"] == pytest.approx(quality["realised_share"], abs=0.03)
    turned = compute_calibration(known, ScoredRows(window.probability, 1.0 - window.label))
    assert turned["calibration_error"] > 5 * quality["calibration_error"]


@pytest.mark.parametrize(("half", "alarms"), [(0.026, True), (0.1, False)])
def test_a_lower_auc_alarms_when_it_is_certain(half: float, alarms: bool) -> None:
    limit = compute_lower_limit(Interval(0.77, 0.76, 0.78), Interval(0.70, 0.70 - half, 0.70 + half), 0.02, 0.002)
    assert (limit > 0.70) == alarms

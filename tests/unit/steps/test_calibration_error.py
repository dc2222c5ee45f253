"""evaluate.calibration: the error that chance explains, and the error rates of the gate's rule in simulated worlds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from evaluate import calibration
from evaluate.bootstrap import Bootstrap
from evaluate.calibration import compute_expected_error, measure_calibration
from evaluate.gate import check_calibration
from stepkit.model.metrics import Scored
from stepkit.model.statistics import Interval, compute_calibration_error
from stepkit.settings.evaluate import Costs, Gate

LIMIT = 0.05
BALANCED = 0.95
"""Excess of the log-odds of a forest with balanced class weights, where 22 % of the rows are positive."""


@pytest.mark.parametrize(
    ("probability", "expected"),
    [
        ([0.0, 1.0, 1.0], 0.0),
        ([0.5, 0.5], 0.25),  # one bin, |1 - positives|: 1/2 * 0 + 1/2 * 1 for two rows
        ([0.25, 0.75], 0.375),  # two bins with 1/4 * 3/4 + 3/4 * 1/4 each
        ([0.2, 0.2, 0.9], (0.64 * 0.4 + 0.32 * 0.6 + 0.04 * 1.6 + 0.9 * 0.1 + 0.1 * 0.9) / 3),
    ],
)
def test_the_expected_error_of_a_few_rows_is_that_computed_by_hand(probability: list[float], expected: float) -> None:
    assert compute_expected_error(np.array(probability), 1) == pytest.approx(expected, abs=0.02)


def test_a_large_table_has_the_expected_error_of_its_own_size(monkeypatch: pytest.MonkeyPatch) -> None:
    probability = np.random.default_rng(1).random(8_000)
    expected = compute_expected_error(probability, 1)
    monkeypatch.setattr(calibration, "MOST_ROWS", 1_000)
    assert compute_expected_error(probability, 1) == pytest.approx(expected, rel=0.05)


def test_the_excess_is_the_error_without_the_expected_part_and_its_interval_has_the_width_of_the_errors() -> None:
    measured = measure_calibration(np.array([0.0, 1.0] * 10), Interval(0.25, 0.2, 0.4), 1)
    assert (measured.error, measured.expected, measured.rows) == (0.25, 0.0, 20)
    assert vars(measured.excess) == pytest.approx({"value": 0.25, "low": 0.15, "high": 0.35})


def simulate(rows: int, seed: int, more_likely: float = 0.0) -> Scored:
    """Return the predictions of a model for `rows` clients, which adds `more_likely` to the true log-odds."""
    random = np.random.default_rng([seed, rows])
    odds = random.normal(-1.5, 1.1, rows)
    probability = expit(odds + more_likely)
    return Scored((random.random(rows) < expit(odds)).astype(int), probability, (probability > 0.5).astype(int))


def is_rejected(scored: Scored, seed: int) -> bool:
    value = compute_calibration_error(scored.labels, scored.probability)
    if value - compute_expected_error(scored.probability, seed) <= LIMIT:
        return False  # the interval contains the excess, so it is not computed, which saves most of the time
    error = Bootstrap(100, seed, 0.95, Costs()).compute_intervals(scored)["calibration_error"]
    return not check_calibration(measure_calibration(scored.probability, error, seed), 0.95, LIMIT).passed


def count_rejected(rows: int, worlds: int, more_likely: float = 0.0) -> int:
    return sum(is_rejected(simulate(rows, seed, more_likely), seed) for seed in range(worlds))


@pytest.mark.parametrize(("rows", "worlds"), [(30, 200), (120, 200), (300, 100), (3_000, 20), (30_000, 3)])
def test_a_perfectly_calibrated_model_passes_at_every_size(rows: int, worlds: int) -> None:
    assert Gate().calibration_error == LIMIT
    assert count_rejected(rows, worlds) == 0


def test_without_the_expected_part_and_the_interval_most_models_of_few_rows_would_be_rejected() -> None:
    errors = [compute_calibration_error(few.labels, few.probability) for few in (simulate(120, s) for s in range(50))]
    assert np.mean([error > LIMIT for error in errors]) > 0.9
    assert np.mean(errors) == pytest.approx(0.09, abs=0.02)


@pytest.mark.parametrize(("rows", "worlds"), [(1_000, 20), (9_000, 3)])
def test_a_forest_with_balanced_class_weights_fails(rows: int, worlds: int) -> None:
    balanced = simulate(9_000, 1, BALANCED)
    assert compute_calibration_error(balanced.labels, balanced.probability) == pytest.approx(0.165, abs=0.01)
    assert count_rejected(rows, worlds, BALANCED) == worlds

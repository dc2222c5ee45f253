"""Credit sheet: its figures by hand on a table of 12 rows, and its limits."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from evaluate.bootstrap import Bootstrap
from evaluate.credit import MOST_CUTOFFS, CreditSheet, build_credit_sheet, build_gains, build_strategy, find_ks_score
from evaluate.plots import plot_gains, plot_strategy
from stepkit.model.metrics import Scored
from stepkit.settings.evaluate import Costs
from stepkit.strict_json import to_json

PROBABILITY = np.array([0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.35, 0.3, 0.25, 0.2, 0.1])
LABELS = np.array([1, 1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0])
THRESHOLD = 0.65


def make_sheet(
    labels: np.ndarray = LABELS, probability: np.ndarray = PROBABILITY, costs: Costs | None = None
) -> CreditSheet:
    costs = costs or Costs()
    scored = Scored(labels, probability, (probability >= THRESHOLD).astype(int))
    metrics = Bootstrap(200, 42, 0.95, costs).compute_intervals(scored)
    return build_credit_sheet(scored, metrics, THRESHOLD, costs)


def list_values(sheet: CreditSheet) -> list[float]:
    """Return Gini and KS."""
    assert sheet.gini
    assert sheet.ks
    return [sheet.gini.value, sheet.ks.value]


def test_gini_and_ks_of_twelve_rows() -> None:
    sheet = make_sheet()
    # 8 + 8 + 7 + 6 of the 4 * 8 pairs of a default and another row are in order
    # at 0.5 and above: all four defaults, two of the eight others
    assert list_values(sheet) == pytest.approx([2 * 29 / 32 - 1, 4 / 4 - 2 / 8])
    assert sheet.gini
    assert -1 <= sheet.gini.low < sheet.gini.value <= sheet.gini.high <= 1
    assert sheet.ks_score == pytest.approx((0.5 + 0.4) / 2)


def test_gains_of_twelve_rows() -> None:
    gains = make_sheet().gains
    assert [decile.decile for decile in gains] == [*range(1, 11)]
    assert [decile.rows for decile in gains] == [1, 1, 2, 1, 1, 1, 1, 2, 1, 1]
    assert [decile.defaults for decile in gains] == [1, 1, 1, 0, 1, 0, 0, 0, 0, 0]
    assert [decile.default_rate for decile in gains] == [1, 1, 0.5, 0, 1, 0, 0, 0, 0, 0]
    assert [decile.capture for decile in gains] == [0.25, 0.5, 0.75, 0.75, 1, 1, 1, 1, 1, 1]
    assert [decile.lift for decile in gains] == pytest.approx([3, 3, 1.5, 0, 3, 0, 0, 0, 0, 0])
    third = gains[2]
    assert [third.lowest, third.highest, third.mean_probability] == pytest.approx([0.7, 0.8, 0.75])


@pytest.mark.parametrize(
    ("costs", "cost"),
    [
        (Costs(), (1 * 1 + 1 * 5) / 12),
        (Costs(true_negative=-1, false_positive=2, false_negative=10, true_positive=3), (-7 + 2 + 10 + 3 * 3) / 12),
    ],
)
def test_the_strategy_at_the_threshold_follows_the_costs(costs: Costs, cost: float) -> None:
    chosen = make_sheet(costs=costs).chosen
    assert chosen
    assert (chosen.cutoff, chosen.approval_rate, chosen.default_rate) == (THRESHOLD, 8 / 12, 1 / 8)
    assert chosen.cost_per_row == pytest.approx(cost)


def test_the_strategy_curve_starts_with_all_rows_and_ends_with_none() -> None:
    first, second, *_, last = build_strategy(LABELS, PROBABILITY, Costs())
    assert [first.approval_rate, first.default_rate, first.cost_per_row] == pytest.approx([1, 4 / 12, 4 * 5 / 12])
    assert (second.approval_rate, second.default_rate) == (11 / 12, 3 / 11)
    assert [last.approval_rate, last.cost_per_row] == pytest.approx([0, 8 * 1 / 12])
    assert math.isnan(last.default_rate), "no row is approved"


def test_rows_with_equal_probability_share_a_decile_and_a_side_of_each_cutoff() -> None:
    probability = np.repeat([0.8, 0.5, 0.2], [3, 6, 3])
    gains = build_gains(LABELS, probability)
    assert [decile.rows for decile in gains] == [3, 6, 3]
    assert [decile.defaults for decile in gains] == [2, 2, 0]
    assert all(decile.lowest == decile.highest for decile in gains)
    rates = [cutoff.approval_rate for cutoff in build_strategy(LABELS, probability, Costs())]
    assert rates == [1, 9 / 12, 3 / 12, 0]


def test_one_score_for_all_rows_separates_nothing() -> None:
    sheet = make_sheet(probability=np.full(12, 0.3))
    assert list_values(sheet) == [0, 0]
    (decile,) = sheet.gains
    assert (decile.rows, decile.default_rate, decile.capture, decile.lift) == (12, 4 / 12, 1, 1)
    assert [cutoff.approval_rate for cutoff in sheet.cutoffs] == [1, 0]
    assert sheet.chosen
    assert plot_gains(sheet.gains).axes
    assert plot_strategy(sheet.cutoffs, sheet.chosen).axes


@pytest.mark.parametrize("label", [0, 1])
def test_a_split_with_one_class_has_no_sheet_but_a_reason(label: int) -> None:
    assert make_sheet(np.full(12, label)).to_report() == {"left_out": f"all 12 rows are of class {label}"}


def test_fewer_rows_than_deciles_leave_deciles_out() -> None:
    gains = build_gains(np.array([1, 0, 0]), np.array([0.9, 0.5, 0.1]))
    assert [(decile.decile, decile.rows) for decile in gains] == [(2, 1), (5, 1), (9, 1)]
    assert gains[-1].capture == 1


def test_probabilities_of_exactly_0_and_1_are_possible() -> None:
    sheet = make_sheet(probability=LABELS.astype(float))
    assert [*list_values(sheet), sheet.ks_score] == [1, 1, 0.5]
    assert [(cutoff.approval_rate, cutoff.default_rate) for cutoff in sheet.cutoffs] == [(8 / 12, 0)]


def test_the_report_has_no_nan_and_a_bounded_curve() -> None:
    random = np.random.default_rng(1)
    probability = random.random(5000)
    report = make_sheet((random.random(5000) < probability).astype(int), probability).to_report()
    text = to_json(report)
    assert "NaN" not in text
    cutoffs = json.loads(text)["strategy"]["cutoffs"]
    assert len(cutoffs) == MOST_CUTOFFS + 1
    assert cutoffs[-1]["default_rate"] is None
    rates = [cutoff["approval_rate"] for cutoff in cutoffs]
    assert np.abs(np.diff(rates) + 0.01).max() < 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_ks_occurs_at_its_score_even_if_the_model_is_upside_down(seed: int) -> None:
    random = np.random.default_rng(seed)
    probability = random.integers(0, 30, 300) / 30
    labels = (random.random(300) < (probability if seed % 2 else 1 - probability)).astype(int)
    sheet, score = make_sheet(labels, probability), find_ks_score(labels, probability)
    below = [np.mean(probability[labels == label] < score) for label in (0, 1)]
    assert abs(below[0] - below[1]) == pytest.approx(list_values(sheet)[1])

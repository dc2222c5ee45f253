"""Groups of protected columns: rates, comparisons with intervals, and the two rules of the gate."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fairlearn import metrics

from evaluate.fairness import ColumnFairness, Group, measure_fairness
from evaluate.gate import check_fairness
from evaluate.verdict import Rule
from stepkit.model.metrics import Scored
from stepkit.settings.evaluate import Evaluation, Gate, Slices
from stepkit.table.columns import Column, Columns

SETTINGS = Evaluation()


def describe(**columns: Column) -> Columns:
    return Columns(source_target="y", target="y", columns=columns)


CODES = Column(role="categorical", values=[1, 2, 3], label="Group", labels={1: "a", 2: "b", 3: "c"}, protected=True)


def draw(
    rng: np.random.Generator, sizes: list[int], approval: list[float], column: Column = CODES
) -> list[ColumnFairness]:
    """Return the groups of clients of whom these shares are approved by chance, whatever their class."""
    codes = pd.Series(np.repeat(np.arange(len(sizes)) + 1, sizes))
    labels = (rng.random(len(codes)) < 0.22).astype(int)
    predicted = (rng.random(len(codes)) >= np.repeat(approval, sizes)).astype(int)
    scored = Scored(labels, np.full(len(codes), 0.22), predicted)
    return measure_fairness(scored, pd.DataFrame({"g": codes}), describe(g=column), SETTINGS.slices, SETTINGS.level)


def judge(fairness: list[ColumnFairness], **limits: Any) -> dict[str, Rule]:
    settings = SETTINGS.model_copy(update={"gate": Gate(**limits)})
    return {rule.name: rule for rule in check_fairness(fairness, settings)}


def test_the_rates_of_twelve_clients_are_those_computed_by_hand() -> None:
    codes = pd.Series([1.0] * 6 + [2.0] * 6)
    labels = np.array([1, 1, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0])
    predicted = np.array([1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0])
    scored = Scored(labels, np.full(12, 0.5), predicted)
    settings = Slices(min_rows=3)
    (column,) = measure_fairness(scored, pd.DataFrame({"g": codes}), describe(g=CODES), settings, 0.95)
    first, second = column.groups
    assert (first.rows, first.positives, second.rows, second.positives) == (6, 2, 6, 3)
    assert (first.approval_rate.value, second.approval_rate.value) == (4 / 6, 2 / 6)
    assert (first.true_positive_rate.value, second.true_positive_rate.value) == (1 / 2, 1)
    assert (first.false_positive_rate.value, second.false_positive_rate.value) == (1 / 4, 1 / 3)
    assert (first.calibration.value, second.calibration.value) == pytest.approx((0.5 - 2 / 6, 0))
    assert [first.approval_ratio.value, second.approval_ratio.value] == pytest.approx([1, 0.5])
    assert [first.opportunity_gap.value, second.opportunity_gap.value] == pytest.approx([0, 3 / 4 - 2 / 3])
    # Wilson's interval of 4 of 6, computed by its formula.
    z, n, share = 1.959964, 6, 4 / 6
    middle, reach = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    ends = [(middle + sign * reach) / (1 + z * z / n) for sign in (-1, 1)]
    assert [first.approval_rate.low, first.approval_rate.high] == pytest.approx(ends, abs=1e-6)


@pytest.mark.parametrize(("sizes", "approval"), [([3000, 3000], 0.76), ([30, 300, 3000], 0.5), ([40, 40, 40], 0.9)])
def test_equal_groups_pass(sizes: list[int], approval: float) -> None:
    rng = np.random.default_rng(7)
    failed = 0
    for _ in range(100):
        rules = judge(draw(rng, sizes, [approval] * len(sizes)))
        failed += not all(rule.passed for rule in rules.values())
    assert failed <= 1


def test_a_ratio_of_seven_tenths_fails_and_the_reason_names_the_group() -> None:
    rng = np.random.default_rng(7)
    caught = 0
    for _ in range(40):
        rule = judge(draw(rng, [3000, 3000], [0.8, 0.56]))["approval_ratio"]
        caught += not rule.passed
        assert "Group: b" in rule.reason
    assert caught >= 38


def test_a_rule_is_off_with_null_and_compares_with_its_own_limit() -> None:
    fairness = draw(np.random.default_rng(7), [3000, 3000], [0.8, 0.56])
    assert judge(fairness, approval_ratio=None, opportunity_gap=None) == {}
    assert judge(fairness, approval_ratio=0.6)["approval_ratio"].passed
    assert judge(fairness)["opportunity_gap"].passed is False
    assert judge(fairness, opportunity_gap=0.5)["opportunity_gap"].passed


@pytest.mark.parametrize(("sizes", "reason"), [([3000], "all rows are in one group"), ([3000, 29], "only 1 of 2")])
def test_groups_that_cannot_be_compared_are_shown_with_the_reason(sizes: list[int], reason: str) -> None:
    (column,) = draw(np.random.default_rng(7), sizes, [0.5] * len(sizes))
    assert column.reason.startswith(reason)
    assert [group.rows for group in column.groups] == sizes
    assert all(math.isnan(group.approval_ratio.value) for group in column.groups)
    assert judge([column]) == {}


@pytest.mark.parametrize(
    ("approval", "ratios"), [([0.0, 0.0], [math.nan] * 2), ([1.0, 1.0], [1.0, 1.0]), ([1.0, 0.0], [1.0, 0.0])]
)
def test_rates_of_zero_and_one_are_compared_unless_no_client_is_approved(
    approval: list[float], ratios: list[float]
) -> None:
    (column,) = draw(np.random.default_rng(7), [500, 500], approval)
    assert [group.approval_ratio.value for group in column.groups] == pytest.approx(ratios, nan_ok=True)
    rules = judge([column])
    assert ("approval_ratio" in rules) == (ratios[0] == 1)
    assert all(rule.passed for rule in rules.values()) == (approval[0] == approval[1])


def test_missing_values_and_columns_without_protection_are_not_compared() -> None:
    values = pd.Series([1.0, 2.0, np.nan] * 40)
    scored = Scored(np.tile([0, 1], 60), np.full(120, 0.5), np.zeros(120, dtype=int))
    table = pd.DataFrame({"g": values, "h": values})
    columns = describe(g=CODES, h=Column(role="categorical"))
    (column,) = measure_fairness(scored, table, columns, SETTINGS.slices, 0.95)
    by_value: dict[str, Group] = {group.value: group for group in column.groups}
    assert math.isnan(by_value["missing"].approval_ratio.value)
    assert by_value["1"].approval_ratio.value == 1


def test_the_rates_and_comparisons_are_those_of_fairlearn() -> None:
    rng = np.random.default_rng(5)
    codes = pd.Series(rng.integers(1, 4, 3000))
    labels, predicted = (rng.random(3000) < 0.2 * codes).astype(int), (rng.random(3000) < 0.15 * codes).astype(int)
    scored = Scored(labels, np.full(3000, 0.2), predicted)
    (column,) = measure_fairness(scored, pd.DataFrame({"g": codes}), describe(g=CODES), SETTINGS.slices, 0.95)
    approvals = {"y_true": 1 - labels, "y_pred": 1 - predicted, "sensitive_features": codes}
    rates = {"approval": metrics.selection_rate, "good": metrics.true_positive_rate}
    approved = metrics.MetricFrame(metrics=rates, **approvals)
    errors = {"tpr": metrics.true_positive_rate, "fpr": metrics.false_positive_rate, "rows": metrics.count}
    by_class = metrics.MetricFrame(metrics=errors, y_true=labels, y_pred=predicted, sensitive_features=codes).by_group
    for group in column.groups:
        expected = by_class.loc[int(group.value)]
        assert group.rows == expected["rows"]
        assert group.approval_rate.value == pytest.approx(approved.by_group.loc[int(group.value), "approval"])
        assert group.true_positive_rate.value == pytest.approx(expected["tpr"])
        assert group.false_positive_rate.value == pytest.approx(expected["fpr"])
    lowest = min(group.approval_ratio.value for group in column.groups)
    assert lowest == pytest.approx(approved.ratio(method="between_groups")["approval"])
    widest = max(group.opportunity_gap.value for group in column.groups)
    assert widest == pytest.approx(approved.difference(method="between_groups")["good"])

"""Approval rates of protected groups: the ratio between groups alarms, and a change of all groups alike does not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from drift.compare.groups import MIN_GROUP_ROWS, Approvals, GroupChange, compare_groups
from drift.compare.inputs import Current, Reference, Sides
from drift.compare.performance import ScoredRows
from drift.compare.signals import Judgement, judge, list_inputs
from drift.compare.sources import WatchedVersion
from stepkit.settings.drift import GROUP_SIGNAL, Monitoring
from stepkit.store.model_address import RegisteredVersion
from stepkit.table.columns import Column, Columns

SEX = Column(role="categorical", values=[1, 2], label="Sex", labels={1: "male", 2: "female"}, protected=True)
AGE = Column(slice_by=[30, 50], protected=True)
COLUMNS = Columns(source_target="y", target="y", columns={"x": Column(type="float"), "sex": SEX, "AGE": AGE})


def draw(seed: int, rates: tuple[float, float], rows: int = 3000) -> Approvals:
    """Return answers to this number of clients of either sex, who are approved at these rates."""
    random = np.random.default_rng(seed)
    sex = np.repeat([1.0, 2.0], rows)
    values = pd.DataFrame({"sex": sex, "AGE": random.uniform(20, 60, 2 * rows)})
    return Approvals(random.random(2 * rows) < np.repeat(rates, rows), values)


def compare(before: Approvals, after: Approvals, alpha: float = 0.002) -> dict[str, GroupChange]:
    changes = compare_groups(before, after, COLUMNS, alpha, min_effect=0.03)
    return {f"{change.column}: {change.group}": change for change in changes}


def test_the_change_is_the_quotient_of_the_approval_ratios() -> None:
    changes = compare(draw(1, (0.8, 0.8)), draw(2, (0.8, 0.6)))
    male, female = changes["Sex: male"], changes["Sex: female"]
    assert (male.rows, female.rows) == (3000, 3000)
    expected = female.after / male.after / (female.before / male.before)
    assert female.change == pytest.approx(expected, rel=1e-3)
    assert female.change == pytest.approx(1 / male.change)
    assert (female.alarm, male.alarm) == (True, False)
    assert not any(changes[f"AGE: {band}"].alarm for band in ("below 30", "30 to below 50", "50 and above"))


def test_a_change_of_all_groups_alike_does_not_alarm() -> None:
    changes = compare(draw(1, (0.9, 0.6)), draw(2, (0.6, 0.4)))
    assert {name for name, change in changes.items() if change.alarm} == set()


def test_few_windows_of_the_same_population_alarm() -> None:
    before = draw(0, (0.8, 0.7))
    alarms = [
        any(change.alarm for change in compare(before, draw(seed, (0.8, 0.7), 300)).values()) for seed in range(200)
    ]
    assert sum(alarms) <= 2


def test_a_ratio_that_falls_to_four_fifths_is_found() -> None:
    before = draw(0, (0.8, 0.8))
    assert all(compare(before, draw(seed, (0.8, 0.64)))["Sex: female"].alarm for seed in range(1, 51))


@pytest.mark.parametrize(("rows", "is_compared"), [(MIN_GROUP_ROWS - 1, False), (MIN_GROUP_ROWS, True)])
def test_a_small_group_is_shown_and_not_compared(rows: int, is_compared: bool) -> None:
    after = draw(2, (0.8, 0.0), rows)
    female = compare(draw(1, (0.8, 0.8)), after)["Sex: female"]
    assert (female.rows, female.after, female.alarm) == (rows, 0.0, is_compared)
    assert math.isnan(female.change) != is_compared
    assert bool(female.reason) != is_compared


def make_sides(after: Approvals, inputs: list[str], **recorded: Any) -> Sides:
    """Return a window whose log has the column x and these others."""
    before = draw(1, (0.8, 0.8))
    random = np.random.default_rng(5)
    rows = pd.DataFrame({"x": random.normal(size=6000), **before.values})
    scored = ScoredRows(random.random(6000), random.integers(0, 2, 6000).astype(float))
    reference = Reference("a", rows, None, scored, before)
    window = pd.DataFrame({"x": random.normal(size=len(after.is_approved)), **recorded})
    predicted = (~after.is_approved).astype(float)
    probability = random.random(len(window))
    current = Current("b", window, None, None, probability, predicted=predicted)
    version = WatchedVersion(RegisteredVersion("credit", "1", ""), COLUMNS, "", "")
    return Sides(reference, current, version, inputs)


def judge_window(sides: Sides) -> Judgement:
    return judge(sides, Monitoring())


def test_a_model_without_the_protected_columns_is_watched_by_its_inputs() -> None:
    after = draw(2, (0.8, 0.5))
    absent = judge_window(make_sides(after, ["x"]))
    assert not absent.signals["columns_gone"]["alarm"]
    assert [column.column for column in absent.columns] == ["x"]
    assert GROUP_SIGNAL not in absent.signals

    recorded = judge_window(make_sides(after, ["x"], sex=after.values["sex"]))
    signal = recorded.signals[GROUP_SIGNAL]
    assert signal["alarm"]
    assert signal["groups"] == ["Sex: female"]
    assert recorded.details["columns_new"] == []
    assert not recorded.signals["columns_gone"]["alarm"]


def test_an_input_that_is_not_on_record_is_gone() -> None:
    after = draw(2, (0.8, 0.8))
    sides = make_sides(after, ["x", "sex"])
    assert list_inputs(sides) == ["x", "sex"]
    assert judge_window(sides).signals["columns_gone"]["columns"] == ["sex"]


def test_the_signal_sends_no_alert_by_default() -> None:
    settings = Monitoring()
    assert GROUP_SIGNAL not in {*settings.alert_signals, *settings.retrain_signals}
    assert Monitoring(alert_signals=GROUP_SIGNAL).alert_signals == [GROUP_SIGNAL]

"""A column drifts only if the difference is significant and large enough."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from drift.compare.column_tests import NO_TEST, ColumnComparison, compare_column, is_coded
from drift.compare.quality import check_quality
from stepkit.table.columns import Column, Columns

LEVEL, EFFECT = 3e-5, 0.03
RANDOM = np.random.default_rng(1)


def draw_normal(rows: int, shift: float = 0.0) -> pd.Series:
    return pd.Series(RANDOM.normal(shift, 1.0, rows))


def draw_codes(rows: int, *chances: float) -> pd.Series:
    return pd.Series(RANDOM.choice(len(chances), rows, p=chances)).astype(float)


def compare(before: pd.Series, after: pd.Series, coded: bool = False) -> ColumnComparison:
    return compare_column("column", before, after, coded, LEVEL, EFFECT)


def test_equal_populations_do_not_drift() -> None:
    assert not any(compare(draw_normal(20_000), draw_normal(2_000)).drifted for _ in range(20))


def test_a_large_significant_shift_is_drift() -> None:
    comparison = compare(draw_normal(20_000), draw_normal(2_000, 0.25))
    assert (comparison.test, comparison.drifted) == ("Kolmogorov-Smirnov", True)
    assert comparison.score == pytest.approx(0.1, abs=0.03)


def test_a_significant_but_small_difference_of_many_rows_is_not_drift() -> None:
    comparison = compare(draw_normal(300_000), draw_normal(300_000, 0.03))
    assert (comparison.p_value < LEVEL, comparison.drifted) == (True, False)


def test_a_large_difference_of_few_rows_may_be_chance() -> None:
    comparison = compare(draw_normal(20_000), draw_normal(60, 0.2))
    assert (comparison.score > EFFECT, comparison.drifted) == (True, False)


def test_codes_are_compared_by_their_shares() -> None:
    comparison = compare(draw_codes(20_000, 0.5, 0.3, 0.2), draw_codes(2_000, 0.4, 0.3, 0.3), coded=True)
    assert (comparison.test, comparison.drifted) == ("chi-square", True)
    assert comparison.score == pytest.approx(0.1, abs=0.03)


def test_two_codes_of_few_rows_are_compared_exactly() -> None:
    assert compare(draw_codes(5_000, 0.5, 0.5), draw_codes(300, 0.5, 0.5), coded=True).test == "Fisher exact"


def test_codes_of_single_rows_are_pooled() -> None:
    rare = pd.concat([draw_codes(2_000, 0.5, 0.5), pd.Series([7.0, 8.0, 9.0])])
    assert compare(draw_codes(20_000, 0.5, 0.5), rare, coded=True).p_value > LEVEL


@pytest.mark.parametrize("coded", [True, False])
def test_a_constant_column_and_one_without_values_do_not_drift(coded: bool) -> None:
    same = pd.Series(np.ones(500))
    assert not compare(same, same, coded).drifted
    empty = compare(draw_normal(500), pd.Series(np.full(500, np.nan)), coded)
    assert (empty.test, empty.drifted) == (NO_TEST, False)


def test_missing_values_are_ignored() -> None:
    window = draw_normal(2_000)
    assert not compare(draw_normal(20_000), window.mask(window.index % 2 == 0)).drifted


def test_texts_few_numbers_and_declared_codes_are_codes() -> None:
    assert is_coded(pd.Series(["a", "b"]), False)
    assert is_coded(pd.Series([1.0, 2.0, 3.0]), False)
    assert is_coded(draw_normal(100), True)
    assert not is_coded(draw_normal(100), False)


COLUMNS = Columns(
    source_target="y",
    target="default",
    columns={"age": Column(min=18, max=100), "school": Column(role="categorical", values=[1, 2]), "bill": Column()},
)


def make_table(rows: int) -> pd.DataFrame:
    random = np.random.default_rng(rows)
    return pd.DataFrame(
        {"age": random.integers(18, 80, rows), "school": random.integers(1, 3, rows), "bill": random.normal(size=rows)}
    ).astype(float)


@pytest.mark.parametrize(
    ("rule", "column", "value"),
    [
        ("missing", "age", np.nan),
        ("unknown_codes", "school", 7.0),
        ("out_of_range", "age", 140.0),
        ("out_of_range", "bill", 99.0),
    ],
)
def test_each_rule_names_its_column_and_only_a_rise_alarms(rule: str, column: str, value: float) -> None:
    window = make_table(1_000)
    window.loc[window.index < 50, column] = value
    alarms = [fault for fault in check_quality(make_table(5_000), window, COLUMNS, LEVEL, 0.01) if fault.alarm]
    assert [(fault.rule, fault.column) for fault in alarms] == [(rule, column)]
    assert alarms[0].current == pytest.approx(0.05, abs=0.003)
    assert not any(fault.alarm for fault in check_quality(window, make_table(5_000), COLUMNS, LEVEL, 0.01))


def test_a_fault_of_few_rows_does_not_alarm() -> None:
    window = make_table(10_000)
    window.loc[window.index < 50, "age"] = np.nan
    assert not any(fault.alarm for fault in check_quality(make_table(50_000), window, COLUMNS, LEVEL, 0.01))


@pytest.mark.parametrize(("values", "share"), [([None, None], 0.0), ([None, -1], 0.5)])
def test_a_missing_whole_number_of_parquet_is_not_out_of_range(values: list[int | None], share: float) -> None:
    columns = Columns(source_target="y", target="y", columns={"n": Column(min=0)})
    window = pd.DataFrame({"n": pd.array(values * 50, dtype="Int64")})
    faults = check_quality(pd.DataFrame({"n": range(100)}), window, columns, 0.05, 0.01)
    shares = {fault.rule: fault.current for fault in faults}
    assert shares == {"missing": values.count(None) / 2, "out_of_range": share}

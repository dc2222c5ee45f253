"""The tests of a column speak when a difference is certain and matters, and only then."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from drift.compare.column_tests import NO_TEST, ColumnComparison, compare_column, is_coded
from drift.compare.quality import check_quality
from stepkit.table.columns import Column, Columns

LEVEL, EFFECT = 3e-5, 0.03
RANDOM = np.random.default_rng(1)


def normal(rows: int, shift: float = 0.0) -> pd.Series:
    return pd.Series(RANDOM.normal(shift, 1.0, rows))


def codes(rows: int, *chances: float) -> pd.Series:
    return pd.Series(RANDOM.choice(len(chances), rows, p=chances)).astype(float)


def compared(before: pd.Series, now: pd.Series, coded: bool = False) -> ColumnComparison:
    return compare_column("column", before, now, coded, LEVEL, EFFECT)


def test_equal_populations_do_not_drift() -> None:
    assert not any(compared(normal(20_000), normal(2_000)).drifted for _ in range(20))


def test_a_shift_is_found_by_its_size_and_certainty() -> None:
    found = compared(normal(20_000), normal(2_000, 0.25))
    assert (found.test, found.drifted) == ("Kolmogorov-Smirnov", True)
    assert found.score == pytest.approx(0.1, abs=0.03)


def test_among_very_many_rows_a_certain_but_small_difference_does_not_count() -> None:
    found = compared(normal(300_000), normal(300_000, 0.03))
    assert (found.p_value < LEVEL, found.drifted) == (True, False)


def test_among_few_rows_a_large_difference_may_be_chance() -> None:
    found = compared(normal(20_000), normal(60, 0.2))
    assert (found.score > EFFECT, found.drifted) == (True, False)


def test_codes_are_compared_by_their_shares() -> None:
    found = compared(codes(20_000, 0.5, 0.3, 0.2), codes(2_000, 0.4, 0.3, 0.3), coded=True)
    assert (found.test, found.drifted) == ("chi-square", True)
    assert found.score == pytest.approx(0.1, abs=0.03)


def test_two_codes_of_few_rows_are_compared_exactly() -> None:
    assert compared(codes(5_000, 0.5, 0.5), codes(300, 0.5, 0.5), coded=True).test == "Fisher exact"


def test_codes_of_single_rows_are_pooled() -> None:
    rare = pd.concat([codes(2_000, 0.5, 0.5), pd.Series([7.0, 8.0, 9.0])])
    assert compared(codes(20_000, 0.5, 0.5), rare, coded=True).p_value > LEVEL


@pytest.mark.parametrize("coded", [True, False])
def test_a_constant_column_and_one_without_values_do_not_drift(coded: bool) -> None:
    same = pd.Series(np.ones(500))
    assert not compared(same, same, coded).drifted
    empty = compared(normal(500), pd.Series(np.full(500, np.nan)), coded)
    assert (empty.test, empty.drifted) == (NO_TEST, False)


def test_gaps_are_left_out_of_the_comparison() -> None:
    now = normal(2_000)
    assert not compared(normal(20_000), now.mask(now.index % 2 == 0)).drifted


def test_texts_few_numbers_and_declared_codes_are_codes() -> None:
    assert is_coded(pd.Series(["a", "b"]), False)
    assert is_coded(pd.Series([1.0, 2.0, 3.0]), False)
    assert is_coded(normal(100), True)
    assert not is_coded(normal(100), False)


COLUMNS = Columns(
    source_target="y",
    target="default",
    columns={"age": Column(min=18, max=100), "school": Column(role="categorical", values=[1, 2]), "bill": Column()},
)


def table(rows: int) -> pd.DataFrame:
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
def test_each_rule_names_the_column_that_breaks_it_and_only_a_rise_counts(rule: str, column: str, value: float) -> None:
    now = table(1_000)
    now.loc[now.index < 50, column] = value
    bad = [one for one in check_quality(table(5_000), now, COLUMNS, LEVEL, 0.01) if one.alarm]
    assert [(one.rule, one.column) for one in bad] == [(rule, column)]
    assert bad[0].current == pytest.approx(0.05, abs=0.003)
    assert not any(one.alarm for one in check_quality(now, table(5_000), COLUMNS, LEVEL, 0.01))


def test_a_fault_of_a_few_rows_does_not_count() -> None:
    now = table(10_000)
    now.loc[now.index < 50, "age"] = np.nan
    assert not any(one.alarm for one in check_quality(table(50_000), now, COLUMNS, LEVEL, 0.01))


@pytest.mark.parametrize(("values", "share"), [([None, None], 0.0), ([None, -1], 0.5)])
def test_a_missing_whole_number_of_parquet_is_not_out_of_range(values: list[int | None], share: float) -> None:
    columns = Columns(source_target="y", target="y", columns={"n": Column(min=0)})
    now = pd.DataFrame({"n": pd.array(values * 50, dtype="Int64")})
    found = {
        fault.rule: fault.current for fault in check_quality(pd.DataFrame({"n": range(100)}), now, columns, 0.05, 0.01)
    }
    assert found == {"missing": values.count(None) / 2, "out_of_range": share}

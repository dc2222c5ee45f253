"""check_data.rules: each rule of a column as a mask of the rows that break it."""

from __future__ import annotations

import pandas as pd
import pytest

from check_data.rules import (
    RULES,
    broken_rows,
    out_of_range,
    remedy,
    too_many_missing,
    unknown_class,
    unknown_value,
    wrong_type,
)
from stepkit.table.columns import Column, Columns
from tests.support.memory import peak_bytes
from tests.support.small_data import CLIENTS, clients

TEXT = Column(type="text", role="categorical")


def broken(mask: pd.Series) -> list[int]:
    """The row numbers for which a rule says: broken."""
    return [int(row) for row in mask.index[mask.fillna(False).astype(bool)]]


@pytest.mark.parametrize(
    ("values", "column", "rows"),
    [
        ([1, 2, None], Column(), []),
        ([1, "two", None], Column(), [1]),
        ([1, 2.5, 3.0], Column(), [1]),
        ([1, float("inf"), 3], Column(), [1]),
        ([1, 2.5, None], Column(type="float"), []),
        ([2**24, 2**24 + 1, -(2**24) - 1, None], Column(role="categorical"), [1, 2]),
        ([100000001.0, 7], Column(type="float", role="categorical"), [0]),
        ([2**24 + 1, 10**12], Column(), []),
        (["100000001", "x"], TEXT, []),
        ([1, "two", None], Column(type="float"), [1]),
        (["a", 7, None], TEXT, []),
    ],
)
def test_type_names_texts_among_numbers_and_fractions_among_whole_ones(
    values: list[object], column: Column, rows: list[int]
) -> None:
    assert broken(wrong_type(pd.Series(values), column)) == rows


@pytest.mark.parametrize(
    ("values", "column", "rows"),
    [
        ([1, 2, 9], Column(values=[1, 2]), [2]),
        ([1.0, 2.0, None], Column(values=[1, 2]), []),
        ([-2, -1, 0], Column(values=[-2, -1]), [2]),
        (["car", "boat", None], Column(type="text", role="categorical", values=["car"]), [1]),
        ([1, 9], Column(), []),
        ([0.5, 1.5, 2.5], Column(type="float", values=[0.5, 1.5]), [2]),
    ],
)
def test_known_values_names_codes_that_are_not_described(values: list[object], column: Column, rows: list[int]) -> None:
    assert broken(unknown_value(pd.Series(values), column)) == rows


@pytest.mark.parametrize(
    ("values", "column"),
    [
        ([0.5, 1.0], Column(type="float", values=[0.5, 1.0])),
        ([1, 2, 2.5], Column(type="float", values=[1, 2, 2.5])),
        (["v1.0", "v1.5"], Column(type="text", role="categorical", values=["v1.0", "v1.5"])),
    ],
    ids=["fractions", "whole numbers among fractions", "texts that look like numbers"],
)
def test_known_values_that_end_in_a_zero_fraction_are_known(values: list[object], column: Column) -> None:
    assert broken(unknown_value(pd.Series(values), column)) == []


@pytest.mark.parametrize(
    ("column", "rows"),
    [
        (Column(min=2), [0]),
        (Column(max=2), [2]),
        (Column(min=2, max=2), [0, 2]),
        (Column(min=1, max=3), []),
        (Column(), []),
    ],
)
def test_range_takes_the_limits_as_allowed(column: Column, rows: list[int]) -> None:
    assert broken(out_of_range(pd.Series([1, 2, 3, None]), column)) == rows


def test_range_leaves_gaps_and_texts_to_the_other_rules() -> None:
    values = pd.Series(["old", None, 17], dtype=object)
    assert broken(out_of_range(values, Column(min=18))) == [2]
    assert broken(out_of_range(pd.Series([None, 17], dtype="Int64"), Column(min=18))) == [1]


@pytest.mark.parametrize(("most", "rows"), [(0.0, [1, 3]), (0.49, [1, 3]), (0.5, []), (1.0, [])])
def test_missing_allows_the_described_share_of_gaps(most: float, rows: list[int]) -> None:
    assert broken(too_many_missing(pd.Series([1, None, 3, None]), Column(max_missing=most))) == rows


@pytest.mark.parametrize(
    ("values", "rows"),
    [([0, 1], []), ([0.0, 1.0], []), (["0", "1"], []), ([0, 2], [1]), ([0, None], [1]), (["no", 1], [0])],
    ids=str,
)
def test_the_target_is_0_or_1_and_never_missing(values: list[object], rows: list[int]) -> None:
    assert broken(unknown_class(pd.Series(values))) == rows


def test_broken_rows_are_the_values_with_their_row_numbers() -> None:
    table = clients().assign(AGE=[24, 17, 34, 130])
    assert broken_rows(table, CLIENTS, "AGE", "range").to_dict() == {1: 17, 3: 130}


def test_every_rule_finds_nothing_in_clean_rows() -> None:
    found = {(name, rule): len(broken_rows(clients(), CLIENTS, name, rule)) for name in CLIENTS.names for rule in RULES}
    assert set(found.values()) == {0}
    assert len(found) == 12


def test_rules_take_a_column_of_gaps_only() -> None:
    columns = Columns(source_target="y", target="y", columns={"AGE": Column(min=1, values=[1], max_missing=1.0)})
    table = pd.DataFrame({"AGE": pd.Series([None, None], dtype="Int64")})
    assert [len(broken_rows(table, columns, "AGE", rule)) for rule in RULES] == [0, 0, 0, 0]


def test_a_column_of_known_codes_is_judged_without_a_text_for_each_row() -> None:
    column = Column(role="categorical", values=[1, 2])
    values = pd.Series([1.0, 2.0] * 50_000)
    unknown_value(values, column)
    assert peak_bytes(lambda: unknown_value(values, column)) < 50 * len(values)


@pytest.mark.parametrize(
    "column", [Column(type="float"), Column(type="float", min=0, max=float("inf"))], ids=["", "limits"]
)
def test_range_names_infinite_numbers_and_those_beyond_32_bits(column: Column) -> None:
    values = pd.Series([1.0, float("inf"), 1e39, 3.4e38, None], dtype=object)
    assert broken(out_of_range(values, column)) == [1, 2]
    assert broken(out_of_range(-pd.to_numeric(values), Column(type="float"))) == [1, 2]


def test_texts_that_look_like_large_numbers_are_texts() -> None:
    assert broken(out_of_range(pd.Series(["1e400", "inf"]), TEXT)) == []


def test_large_codes_and_numbers_come_with_a_remedy() -> None:
    code, number = Column(role="categorical"), Column(type="float")
    assert "type: text" in remedy(code, "type", pd.Series([100000001]))
    assert "3.4e+38" in remedy(number, "range", pd.Series([float("inf")]))
    assert remedy(code, "type", pd.Series(["word", 2.5], dtype=object)) == ""
    assert remedy(number, "range", pd.Series([-1.0])) == ""

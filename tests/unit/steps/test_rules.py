"""check_data.rules: rules of a column, as masks of the rows that break them."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from pandas.api.extensions import ExtensionArray

from check_data.rules import RULES, find_broken_rows, mark_unknown_classes, mark_unknown_values, suggest_remedy
from stepkit.table.columns import Column, Columns
from tests.support.memory import measure_peak_bytes
from tests.support.small_data import CLIENTS, make_clients

TEXT = Column(type="text", role="categorical")
FLOAT = Column(type="float")
CODE = Column(role="categorical")
INF = float("inf")


def make_column(*values: object, **keys: object) -> Column:
    return Column.model_validate({"values": values, **keys})


@pytest.mark.parametrize(
    ("rule", "values", "column", "rows"),
    [
        ("type", [1, 2, None], Column(), []),
        ("type", [1, "two", None], Column(), [1]),
        ("type", [1, 2.5, 3.0], Column(), [1]),
        ("type", [1, INF, 3], Column(), [1]),
        ("type", [1, 2.5, None], FLOAT, []),
        ("type", [1, "two", None], FLOAT, [1]),
        ("type", [2**24, 2**24 + 1, -(2**24) - 1, None], CODE, [1, 2]),
        ("type", [100000001.0, 7], Column(type="float", role="categorical"), [0]),
        ("type", [2**24 + 1, 10**12], Column(), []),
        ("type", ["100000001", 7, None], TEXT, []),
        ("known values", [1, 2, 9], make_column(1, 2), [2]),
        ("known values", [1.0, 2.0, None], make_column(1, 2), []),
        ("known values", [-2, -1, 0], make_column(-2, -1), [2]),
        ("known values", ["car", "boat", None], make_column("car", type="text", role="categorical"), [1]),
        ("known values", [1, 9], Column(), []),
        ("known values", [0.5, 1.5, 1.0], make_column(0.5, 1.0, type="float"), [1]),
        ("known values", [1, 2, 2.5], make_column(1, 2, 2.5, type="float"), []),
        ("known values", ["v1.0", "v1.5"], make_column("v1.0", "v1.5", type="text", role="categorical"), []),
        ("range", [1, 2, 3, None], Column(min=2), [0]),
        ("range", [1, 2, 3, None], Column(max=2), [2]),
        ("range", [1, 2, 3, None], Column(min=2, max=2), [0, 2]),
        ("range", [1, 2, 3, None], Column(min=1, max=3), []),
        ("range", ["old", None, 17], Column(min=18), [2]),
        ("range", pd.array([None, 17], dtype="Int64"), Column(min=18), [1]),
        ("range", [1.0, INF, 1e39, 3.4e38, -INF, None], FLOAT, [1, 2, 4]),
        ("range", [1.0, INF, 1e39, 3.4e38, None], Column(type="float", min=0, max=INF), [1, 2]),
        ("range", ["1e400", "inf"], TEXT, []),
        ("missing", [1, None, 3, None], Column(max_missing=0.0), [1, 3]),
        ("missing", [1, None, 3, None], Column(max_missing=0.49), [1, 3]),
        ("missing", [1, None, 3, None], Column(max_missing=0.5), []),
        *((rule, pd.array([None, None], dtype="Int64"), make_column(1, min=1, max_missing=1.0), []) for rule in RULES),
    ],
)
def test_a_rule_names_the_rows_that_break_it(rule: str, values: Any, column: Column, rows: list[int]) -> None:
    columns = Columns(source_target="y", target="y", columns={"x": column})
    values = values if isinstance(values, ExtensionArray) else pd.Series(values, dtype=object)
    assert find_broken_rows(pd.DataFrame({"x": values}), columns, "x", rule).index.tolist() == rows


@pytest.mark.parametrize(
    ("values", "rows"),
    [([0, 1], []), ([0.0, 1.0], []), (["0", "1"], []), ([0, 2], [1]), ([0, None], [1]), (["no", 1], [0])],
    ids=str,
)
def test_the_target_is_0_or_1_and_never_missing(values: list[object], rows: list[int]) -> None:
    assert pd.Series(values)[mark_unknown_classes(pd.Series(values))].index.tolist() == rows


def test_broken_rows_are_the_values_with_their_row_numbers() -> None:
    table = make_clients().assign(AGE=[24, 17, 34, 130])
    assert find_broken_rows(table, CLIENTS, "AGE", "range").to_dict() == {1: 17, 3: 130}


def test_every_rule_finds_nothing_in_clean_rows() -> None:
    broken = {
        (name, rule): len(find_broken_rows(make_clients(), CLIENTS, name, rule))
        for name in CLIENTS.names
        for rule in RULES
    }
    assert set(broken.values()) == {0}
    assert len(broken) == 12


def test_a_column_of_known_codes_is_judged_without_a_text_for_each_row() -> None:
    column = make_column(1, 2, role="categorical")
    values = pd.Series([1.0, 2.0] * 50_000)
    mark_unknown_values(values, column)
    assert measure_peak_bytes(lambda: mark_unknown_values(values, column)) < 50 * len(values)


def test_large_codes_and_numbers_come_with_a_remedy() -> None:
    assert "type: text" in suggest_remedy(CODE, "type", pd.Series([100000001]))
    assert "3.4e+38" in suggest_remedy(FLOAT, "range", pd.Series([INF]))
    assert suggest_remedy(CODE, "type", pd.Series(["word", 2.5], dtype=object)) == ""
    assert suggest_remedy(FLOAT, "range", pd.Series([-1.0])) == ""

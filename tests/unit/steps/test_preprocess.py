"""preprocess: corrects the form of a table and validates nothing."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from preprocess.classes import format_other_classes, select_classes
from preprocess.duplicates import ROWS_AT_ONCE, mark_empty_rows, mark_repeated_rows
from preprocess.run import (
    clean_table,
    convert_type,
    count_identical_rows,
    count_undated_rows,
    to_target,
    verify_columns,
)
from stepkit.errors import TableUnfit
from stepkit.table.columns import Column
from stepkit.table.tables import add_column
from tests.support.memory import count_bytes, measure_peak_bytes
from tests.support.small_data import CLIENTS, LOANS

TARGET = CLIENTS.source_target


def raw() -> pd.DataFrame:
    """Return a table in which rows 1 and 2 are the same client with two ids, and row 3 is empty except for its id."""
    return pd.DataFrame(
        {
            "ID": [1, 2, 3, 4],
            TARGET: [1, 1, None, 0],
            "AGE": [24, 24, None, 57],
            "SEX": [2, 2, None, 1],
            "LIMIT_BAL": [20000, 20000, None, 50000],
            "NOTE": ["a", "a", None, "b"],
        }
    )


def test_tidy_drops_equal_and_empty_rows_and_gives_doubles_as_the_models_signature_has_them() -> None:
    table = raw()
    before = table.copy(deep=True)
    clean = clean_table(table, CLIENTS)
    expected = pd.DataFrame({"LIMIT_BAL": [20000.0, 50000.0], "SEX": [2.0, 1.0], "AGE": [24.0, 57.0]})
    pd.testing.assert_frame_equal(clean, expected.assign(default=pd.array([1, 0], dtype="Int64")))
    clean.loc[:, "AGE"] = 99
    pd.testing.assert_frame_equal(table, before)


DROPPED = "; dropped 1 identical row (class 1: 66.67% before, 50.00% after)"
WARNING = "; warning: kept 1 identical row. Set data.duplicates: drop if they are copies of the same case, keep if not"


@pytest.mark.parametrize(
    ("duplicates", "rows", "expected_rows", "count", "words"),
    [
        ("drop", 4, [24, 57], 1, DROPPED),
        (None, 4, [24, 24, 57], 1, WARNING),
        ("keep", 4, [24, 24, 57], 0, ""),
        ("drop", 2, [57], 0, ""),
        (None, 2, [57], 0, ""),
    ],
)
def test_identical_rows_are_treated_as_the_data_set_says_and_reported(
    duplicates: str | None, rows: int, expected_rows: list[int], count: int, words: str
) -> None:
    columns, table = CLIENTS.model_copy(update={"duplicates": duplicates}), raw().tail(rows)
    clean = clean_table(table, columns)
    assert clean["AGE"].tolist() == expected_rows
    assert count_identical_rows(table, clean, columns) == (count, words)


def test_tidy_keeps_rows_that_are_only_partly_empty() -> None:
    gappy = raw().assign(AGE=pd.Series([24, None, None, 57], dtype=object))
    assert clean_table(gappy, CLIENTS)["AGE"].isna().tolist() == [False, True, False]


def test_tidy_needs_no_id_no_row_and_no_row_numbers() -> None:
    assert len(clean_table(raw().drop(columns="ID"), CLIENTS)) == 2
    assert clean_table(raw().head(0), CLIENTS).empty
    assert clean_table(raw().set_index(pd.Index(["a", "b", "c", "d"])), CLIENTS).index.tolist() == [0, 1]


def test_tidy_leaves_categories_as_codes_and_texts_as_texts() -> None:
    table = pd.DataFrame({"repaid": ["no"], "branch": ["007"], "purpose": ["boat"], "amount": [1.5]})
    clean = clean_table(table, LOANS)
    assert clean.iloc[0].tolist() == [1.5, "boat", "007", 1]


FLOAT, TEXT = Column(type="float"), Column(type="text", role="categorical")


@pytest.mark.parametrize(
    ("values", "column", "typed"),
    [
        ([1, 2], Column(), [1.0, 2.0]),
        ([1.5, None], Column(), [1.5, "gap"]),
        (["1", "2"], Column(), [1.0, 2.0]),
        (["1.5", None], FLOAT, [1.5, "gap"]),
        ([24, "unknown", None], Column(), [24, "unknown", "gap"]),  # check_data reports it
        (["a", None], TEXT, ["a", "gap"]),
        ([7.0, None], TEXT, ["7", "gap"]),
        ([7, 8], TEXT, ["7", "8"]),
    ],
)
def test_a_column_gets_the_type_that_its_values_allow(
    values: list[object], column: Column, typed: list[object]
) -> None:
    before = pd.Series(values)
    converted = ["gap" if pd.isna(value) else value for value in convert_type(before, column)]
    assert repr(converted) == repr(typed)  # 1.0 is not 1
    assert before.equals(pd.Series(values))


def test_a_target_in_words_becomes_0_and_1() -> None:
    assert to_target(pd.Series(["yes", "no", "yes"]), LOANS).tolist() == [0, 1, 0]


NUMBERS = {
    "whole": [0, 1],
    "doubles": [0.0, 1.0],
    "texts": ["0", "1"],
    "texts of doubles": ["0.00", "1.00"],
    "bytes": np.array([0, 1], "int8"),
    "decimals": [Decimal("0.00"), Decimal("1.00")],
    "nullable": pd.array([0, 1], dtype="Int64"),
    "categories": pd.Categorical([0, 1]),
}


@pytest.mark.parametrize("values", NUMBERS.values(), ids=NUMBERS)
def test_a_target_of_numbers_is_taken_in_any_type(values: list[object]) -> None:
    target = to_target(pd.Series(values), CLIENTS)
    assert target.tolist() == [0, 1]
    assert target.dtype == "Int64"


@pytest.mark.parametrize("classes", [("false", "true"), ("False", "True")], ids=str)
@pytest.mark.parametrize("values", [[False, True], [False, True, None]], ids=["booleans", "with a gap"])
def test_a_target_of_booleans_is_taken_in_either_spelling(values: list[object], classes: tuple[str, str]) -> None:
    columns = CLIENTS.model_copy(update={"negative": classes[0], "positive": classes[1]})
    assert to_target(pd.Series(values, dtype=object), columns).tolist()[:2] == [0, 1]
    assert to_target(pd.Series([False, True]), columns).tolist() == [0, 1]


def test_a_third_class_stays_as_it_came() -> None:
    values = pd.Series([0, 1, 2])
    assert to_target(values, CLIENTS).tolist() == values.tolist() == [0, 1, 2]
    assert to_target(pd.Series(["yes", "maybe", "no"]), LOANS).tolist() == [0, "maybe", 1]
    assert to_target(pd.Series(["yes", None, "no"]), LOANS).isna().tolist() == [False, True, False]


def test_a_table_without_some_columns_is_refused_with_their_names() -> None:
    verify_columns(raw(), CLIENTS, "raw.csv")
    with pytest.raises(TableUnfit, match=rf"raw\.csv: 2 of 4 columns missing: AGE, {TARGET} \(found: ID, SEX"):
        verify_columns(raw().drop(columns=["AGE", TARGET])[["ID", "SEX", "LIMIT_BAL"]], CLIENTS, "raw.csv")


ALIKE = {
    "minus zero": pd.Series([0.0, -0.0]),
    "gaps": pd.Series([np.nan, np.nan]),
    "gaps of other bits": pd.Series(np.array([0x7FF8000000000000, 0x7FF8000000000001], np.uint64).view(np.float64)),
    "gaps of whole numbers": pd.Series([None, None], dtype="Int64"),
    "numbers among objects": pd.Series([1, 1.0], dtype=object),
    "texts": pd.Series(["a", "a"]),
    "booleans": pd.Series([True, True]),
    "large whole numbers": pd.Series([2**62 + 1, 2**62 + 1]),
}
APART = {
    "large whole numbers": pd.Series([2**62, 2**62 + 1]),
    "a gap and a zero": pd.Series([np.nan, 0.0]),
    "texts": pd.Series(["a", "b"]),
    "a number and its text": pd.Series([1, "1"], dtype=object),
}


@pytest.mark.parametrize(
    ("values", "equal"),
    [*((values, True) for values in ALIKE.values()), *((values, False) for values in APART.values())],
    ids=[*ALIKE, *APART],
)
def test_rows_are_equal_if_and_only_if_their_values_are(values: pd.Series, equal: bool) -> None:
    table = pd.DataFrame({"ID": [1, 2], "x": values, "y": [3, 3]})
    assert mark_repeated_rows(table, "ID").tolist() == [False, equal]


def make_mixed_table(rows: int, seed: int) -> pd.DataFrame:
    """Return a table with equal rows, empty rows and all kinds of columns."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "ID": range(rows),
            "whole": random.integers(0, 3, rows),
            "double": random.choice([0.0, -0.0, 1.5, np.nan], rows),
            "gappy": pd.array(random.integers(0, 2, rows), dtype="Int64"),
            "text": random.choice(np.array(["a", "b", None], dtype=object), rows),
        }
    )
    empty = random.random(rows) < 0.1
    return pd.DataFrame({name: values if name == "ID" else values.mask(empty) for name, values in table.items()})


@pytest.mark.parametrize("seed", range(5))
def test_the_rows_that_go_are_those_that_pandas_drops(seed: int) -> None:
    table = make_mixed_table(200, seed)
    expected = table.drop(columns="ID").dropna(how="all").drop_duplicates().index
    places = np.flatnonzero(~mark_empty_rows(table, "ID") & ~mark_repeated_rows(table, "ID"))
    assert places.tolist() == expected.tolist()
    assert 0 < len(places) < 200


def test_two_undescribed_columns_of_one_name_are_told_apart() -> None:
    table = raw().drop(columns="NOTE").iloc[[0, 1]]
    noted = pd.concat([table, pd.Series(["a", "a"], name="NOTE"), pd.Series(["b", "c"], name="NOTE")], axis=1)
    assert len(clean_table(noted, CLIENTS)) == 2


def make_amounts(rows: int, columns: int) -> pd.DataFrame:
    return pd.DataFrame({f"amount_{number}": np.arange(rows) + number for number in range(columns)})


def test_repeated_rows_are_found_without_another_copy_of_the_table() -> None:
    table = make_amounts(100_000, 20)
    assert measure_peak_bytes(lambda: mark_repeated_rows(table, None)) < 0.5 * count_bytes(table)


def test_tidy_takes_hardly_more_memory_than_what_it_returns() -> None:
    names = [f"amount_{number}" for number in range(20)]
    columns = CLIENTS.model_copy(update={"columns": {name: Column() for name in names}})
    table = make_amounts(100_000, 20).assign(**{TARGET: np.arange(100_000) % 2})
    clean = clean_table(table, columns)
    assert measure_peak_bytes(lambda: clean_table(table, columns)) < 1.5 * count_bytes(clean)


def test_rows_that_are_equal_are_found_however_far_apart() -> None:
    table = make_amounts(2 * ROWS_AT_ONCE + 2, 2)
    table.loc[len(table) - 1] = table.loc[0]
    assert np.flatnonzero(mark_repeated_rows(table, None)).tolist() == [len(table) - 1]


BOOK = LOANS.model_copy(
    update={"positive": ["Charged Off", "Default"], "negative": ["Fully Paid"], "source_target": "status"}
)


def make_book(*statuses: object) -> pd.DataFrame:
    return pd.DataFrame({"status": statuses, "amount": range(len(statuses)), "purpose": "car", "branch": "north"})


def test_rows_of_neither_list_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    raw = make_book("Fully Paid", "Current", "Charged Off", None, "Current", "Late")
    selected, others = select_classes(raw, BOOK)
    labels = clean_table(selected, BOOK)["default"]
    assert (labels.tolist()[:2], labels.isna().tolist()) == ([0, 1], [False, False, True]), "a missing label stays"
    assert format_other_classes(others) == "3 rows: Current (2x), Late (1x)"
    assert "positive: column 'status' does not have the value Default (found Current (2x)" in caplog.text
    assert format_other_classes(others.head(0)) == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"positive": ["Charged-Off"]},
            "positive: column 'status' does not have the value Charged-Off .*Did you mean Charged Off",
        ),
        ({"negative": ["a", "b"]}, "negative: column 'status' does not have the values a, b .* Correct the list in"),
    ],
)
def test_a_class_without_any_listed_value_stops_the_run(change: dict[str, list[str]], message: str) -> None:
    raw = make_book("Fully Paid", "Charged Off")
    with pytest.raises(TableUnfit, match=message):
        select_classes(raw, BOOK.model_copy(update=change))


def test_single_values_leave_no_row_out() -> None:
    raw = make_book("yes", "no", "maybe")
    selected, others = select_classes(raw, LOANS.model_copy(update={"source_target": "status"}))
    assert (len(selected), len(others)) == (3, 0)


def test_booleans_may_be_listed_in_any_spelling() -> None:
    columns = BOOK.model_copy(update={"positive": ["TRUE"], "negative": ["False"]})
    assert clean_table(select_classes(make_book(True, False), columns)[0], columns)["default"].tolist() == [1, 0]


def make_dated(*dates: object) -> pd.DataFrame:
    book = make_book(*["yes", "no"] * (len(dates) // 2)).rename(columns={"status": "repaid"})
    return add_column(book, "opened", list(dates))


DATED = LOANS.model_copy(update={"time_column": "opened"})


def test_the_date_survives_as_iso_text_and_is_not_an_input() -> None:
    clean = clean_table(make_dated("Dec-2015", "Jan-2016", None, "Feb-2016"), DATED)
    assert list(clean) == ["opened", *LOANS.names, "default"]
    assert clean["opened"].fillna("none").tolist() == ["2015-12-01", "2016-01-01", "none", "2016-02-01"]
    with pytest.raises(TableUnfit, match="'opened': 1 of 4 rows are not dates"):
        clean_table(make_dated("Dec-2015", "Jan-2016", "x", "Feb-2016"), DATED)
    with pytest.raises(TableUnfit, match="1 of 5 columns missing: opened"):
        verify_columns(make_dated().drop(columns="opened"), DATED, "raw_data.csv")


def test_a_date_that_is_also_an_input_stays_as_the_model_takes_it() -> None:
    columns = DATED.model_copy(update={"columns": {**LOANS.columns, "opened": Column()}})
    clean = clean_table(make_dated(201512, 201601), columns)
    assert clean["opened"].tolist() == [201512.0, 201601.0]


def test_rows_without_a_date_are_dropped_on_request_and_counted() -> None:
    raw = make_dated("Dec-2015", None, None, "Feb-2016")
    dropping = DATED.model_copy(update={"undated": "drop"})
    assert clean_table(raw, dropping)["amount"].tolist() == [0.0, 3.0]
    assert count_undated_rows(raw, dropping) == 2
    assert count_undated_rows(raw, LOANS) == 0

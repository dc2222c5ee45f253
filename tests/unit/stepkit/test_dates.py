"""stepkit.table.dates: dates of rows in the forms that tables have, and one message for a column that is unclear."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from stepkit.errors import TableUnfit
from stepkit.table.columns import Column, Columns
from stepkit.table.dates import describe_parts, format_dates, is_date_column, parse_dates


def make_dates(*values: Any) -> pd.Series:
    return pd.Series(values, name="issue_d")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["2015-12-31", "2016-02-29"], ["2015-12-31", "2016-02-29"]),
        (["Dec-2015", "jan 2016", "September-2016"], ["2015-12-01", "2016-01-01", "2016-09-01"]),
        ([201512, 201601], ["2015-12-01", "2016-01-01"]),
        ([20151231.0, None], ["2015-12-31", None]),
        (["2015-12", "2016/2/3"], ["2015-12-01", "2016-02-03"]),
        (["31-Dec-2015", "Feb 3, 2016"], ["2015-12-31", "2016-02-03"]),
        (["2015-12-31 00:00:00", " 2016-01-01 00:00:00 "], ["2015-12-31", "2016-01-01"]),
        (["2015-12-31T08:30:00+02:00", "2016-01-01T00:00:00+0200"], ["2015-12-31T08:30:00", "2016-01-01T00:00:00"]),
        (["2015-12-31 23:00:00Z", "2016-01-01 00:00:00+00:00"], ["2015-12-31T23:00:00", "2016-01-01T00:00:00"]),
        ([pd.Timestamp("2015-12-31 08:00:00.25"), None], ["2015-12-31T08:00:00.250000", None]),
        ([2015, 2016], ["2015-01-01", "2016-01-01"]),
        (["", None], [None, None]),
    ],
)
def test_a_date_of_one_meaning_becomes_an_iso_date(values: list[Any], expected: list[str | None]) -> None:
    written = format_dates(parse_dates(make_dates(*values)))
    assert [None if pd.isna(text) else text for text in written] == expected
    assert format_dates(parse_dates(written)).equals(written), "the published dates are read back equal"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["2015-12-31", "03/04/2015", "12.31.15"], "2 of 3 rows have an ambiguous order .*03/04/2015.*rows 1, 2"),
        (["Dec-15", "15-Dec"], "2 of 2 rows have an ambiguous order"),
        (["2015-12-31", "soon", "2015-02-30"], r"2 of 3 rows are not dates: soon \(1x\), 2015-02-30 .*rows 1, 2, coun"),
        (["9999-12-31", "0001-01-01", "1875-01-01"], "3 of 3 rows are not dates"),
        ([201513, 123, 4.5], "3 of 3 rows are not dates"),
        ([True, False], "2 of 2 rows are not dates: True"),
        (
            ["2015-12-31T08:00+02:00", "2015-12-31T08:00+02:00", None, "2015-12-31T08:00Z", "2015-12-31"],
            r"several zones: \+02:00 \(2x\), \+00:00 \(1x\), no zone \(1x\); rows 3, 4, counted from 0",
        ),
    ],
)
def test_unclear_dates_are_one_message_with_their_number_and_first_rows(values: list[Any], message: str) -> None:
    with pytest.raises(TableUnfit, match=f"time_column 'issue_d': {message}") as caught:
        parse_dates(make_dates(*values))
    assert "\n" not in str(caught.value)


def test_a_column_of_dates_is_recognised_and_amounts_and_years_are_not() -> None:
    assert is_date_column(make_dates("Dec-2015", None, "Jan-2016"))
    assert is_date_column(make_dates(201512, 201601))
    for values in ([200_000, 250_000], [2015, 2016], ["2015-12-31"] * 3, ["03/04/2015", "04/05/2016"], [True, False]):
        assert not is_date_column(make_dates(*values)), values


def test_each_part_is_described_by_its_rows_and_dates() -> None:
    columns = Columns(source_target="y", target="y", time_column="day", columns={"x": Column()})
    parts = {"train": pd.DataFrame({"day": ["2015-12-31", None, "2015-01-02"]}), "test": pd.DataFrame({"day": [None]})}
    assert describe_parts(parts, columns) == {
        "train": {"rows": 3, "undated": 1, "first": "2015-01-02", "last": "2015-12-31"},
        "test": {"rows": 1, "undated": 1, "first": None, "last": None},
    }

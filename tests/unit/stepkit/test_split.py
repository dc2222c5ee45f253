"""stepkit.table.split: two parts of a table with equal shares of a column's values."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest

from stepkit.errors import BadParameter, TableUnfit
from stepkit.table.columns import Column, Columns
from stepkit.table.split import split_rows, split_table, split_table_by_time
from tests.support.memory import count_bytes, measure_peak_bytes


def make_table(positive: int, negative: int) -> pd.DataFrame:
    return pd.DataFrame({"row": range(positive + negative), "default": [1] * positive + [0] * negative})


def test_every_row_goes_to_one_part_of_the_wanted_size_and_both_keep_the_shares() -> None:
    first, second = split_table(make_table(20, 80), 0.3, "default", 42)
    assert (len(first), len(second)) == (70, 30)
    assert sorted([*first["row"], *second["row"]]) == list(range(100))
    assert first["default"].mean() == second["default"].mean() == 0.2
    both = make_table(20, 80).assign(SEX=[1, 2] * 50)
    assert split_table(both, 0.3, "SEX", 1)[1]["SEX"].value_counts().to_dict() == {1: 15, 2: 15}, (
        "not only the target's"
    )


def test_without_stratification_the_split_is_a_plain_random_one() -> None:
    shares = {split_table(make_table(20, 80), 0.3, "", seed)[1]["default"].mean() for seed in range(5)}
    assert len(shares) > 1


def test_the_same_seed_gives_the_same_parts_and_another_seed_others() -> None:
    table = make_table(20, 80)
    first, again, different = (split_table(table, 0.3, "default", seed)[1]["row"].tolist() for seed in (7, 7, 8))
    assert first == again
    assert first != different


def test_the_callers_table_is_untouched() -> None:
    original = make_table(5, 5)
    before = original.copy(deep=True)
    for part in split_table(original, 0.3, "default", 42):
        part.loc[:, "row"] = -1
    pd.testing.assert_frame_equal(original, before)


@pytest.mark.parametrize(
    ("positive", "negative", "size", "by", "words"),
    [
        (20, 80, 0.3, "defualt", "cannot stratify by 'defualt': no such column. Columns: row, default"),
        (1, 99, 0.3, "default", "100 rows are too few to split by 'default' .* value 1 has 1 row,"),
        (2, 2, 0.3, "default", "4 rows are too few to split by 'default'"),
        (2, 18, 0.2, "default", "20 rows are too few to split by 'default' .* value 1 would be missing in one"),
        (1, 0, 0.3, "", r"too few rows .*found 1"),
    ],
)
def test_a_table_that_cannot_be_split_says_why(positive: int, negative: int, size: float, by: str, words: str) -> None:
    with pytest.raises(TableUnfit, match=words):
        split_table(make_table(positive, negative), size, by, 42)


def test_gaps_of_the_stratified_column_are_a_value_of_their_own() -> None:
    for gap in (None, float("nan")):
        gappy = make_table(20, 80).assign(town=pd.Series(["Bonn", "Trier", gap, gap] * 25, dtype=object))
        first, second = split_table(gappy, 0.3, "town", 1)
        assert second["town"].isna().sum() == 15
        assert len(first) == 70


def test_a_seed_gives_the_rows_that_it_has_always_given() -> None:
    assert split_table(make_table(5, 15), 0.3, "default", 42)[1]["row"].tolist() == [9, 4, 15, 8, 17, 12]


def test_the_two_parts_are_all_that_a_split_makes() -> None:
    large = make_table(20_000, 80_000).assign(**{f"amount_{number}": 0.5 for number in range(20)})
    assert measure_peak_bytes(lambda: split_table(large, 0.3, "default", 42)) < 1.6 * count_bytes(large)


def describe_dated(**changes: Any) -> Columns:
    return Columns(source_target="y", target="default", time_column="day", columns={"row": Column()}, **changes)


def make_dated(days: Sequence[str | None]) -> pd.DataFrame:
    """Return rows with these dates, with both classes in turn."""
    return pd.DataFrame(
        {"row": range(len(days)), "day": days, "default": [0, 1] * (len(days) // 2) + [0] * (len(days) % 2)}
    )


DAYS = [f"2015-{month:02}-01" for month in range(12, 0, -1)]


def test_by_time_the_newest_rows_are_the_second_part_whatever_their_order() -> None:
    older, newest = split_table_by_time(make_dated(DAYS), 0.25, describe_dated(), 42)
    assert sorted(newest["day"]) == ["2015-10-01", "2015-11-01", "2015-12-01"]
    assert sorted([*older["row"], *newest["row"]]) == list(range(12))
    assert older["row"].tolist() != sorted(older["row"]), "shuffled, as after a random split"


def test_rows_of_one_date_stay_together_at_the_boundary_that_is_closest_to_the_share(
    caplog: pytest.LogCaptureFixture,
) -> None:
    days = ["2015-01-01"] * 4 + ["2015-02-01"] * 10 + ["2015-03-01"] * 6
    with caplog.at_level(logging.WARNING):
        older, newest = split_table_by_time(make_dated(days), 0.3, describe_dated(), 42)
        assert not caplog.records
        assert set(newest["day"]) == {"2015-03-01"}
        assert set(older["day"]) == {"2015-01-01", "2015-02-01"}
        assert len(split_table_by_time(make_dated(days), 0.6, describe_dated(), 42)[1]) == 16
        two_dates = make_dated(["2015-01-01"] * 2 + ["2015-02-01"] * 8)
        assert len(split_table_by_time(two_dates, 0.95, describe_dated(), 42)[0]) == 2, "the older part is not empty"
    assert "the newest part has 80.0% of the rows, not 60.0%" in caplog.text


@pytest.mark.parametrize(
    ("days", "undated", "message"),
    [
        (["2015-01-01"] * 6, None, "all 6 rows have the same date in 'day' .found 2015-01-01.*data.split=random"),
        (["2015-01-01", None, "2015-02-01", None], None, "'day': 2 of 4 rows have no date: rows 1, 3.*train .*or drop"),
        ([None, None], "train", "2 of 2 rows have no date"),
        (
            ["2015-01-01"] * 9 + ["2015-02-01"],
            None,
            "the newest part, 1 rows from 2015-02-01 to 2015-02-01, has only cl",
        ),
    ],
)
def test_a_table_that_cannot_be_split_by_time_says_why(
    days: list[str | None], undated: str | None, message: str
) -> None:
    with pytest.raises(TableUnfit, match=message):
        split_table_by_time(make_dated(days), 0.1, describe_dated(undated=undated), 42)


def test_rows_without_a_date_can_go_to_the_older_part() -> None:
    table = make_dated([None] * 4 + ["2015-01-01"] * 4 + ["2015-02-01"] * 2)
    parts = split_table_by_time(table, 0.2, describe_dated(undated="train"), 42)
    assert [sorted(part["row"]) for part in parts] == [list(range(8)), [8, 9]]
    all_dated_are_newest = split_table_by_time(table.head(8), 0.5, describe_dated(undated="train"), 42)
    assert all_dated_are_newest[0]["day"].isna().all()


def test_the_flag_chooses_the_split_and_stratify_is_not_applied_by_time(caplog: pytest.LogCaptureFixture) -> None:
    table = make_dated(DAYS)
    flags = argparse.Namespace(split="random", stratify="default", random_seed=42)
    pd.testing.assert_frame_equal(
        split_rows(table, 0.25, describe_dated(), flags)[1], split_table(table, 0.25, "default", 42)[1]
    )
    flags.split = "time"
    with caplog.at_level(logging.INFO):
        assert split_rows(table, 0.25, describe_dated(), flags)[1]["day"].min() == "2015-10-01"
    assert "stratify: not applied" in caplog.text
    undescribed = Columns(source_target="y", target="default", columns={"row": Column()})
    with pytest.raises(BadParameter, match="split: time needs the key time_column in data"):
        split_rows(table, 0.25, undescribed, flags)

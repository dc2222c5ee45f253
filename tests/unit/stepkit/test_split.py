"""stepkit.table.split: two parts of a table with equal shares of a column's values."""

from __future__ import annotations

import pandas as pd
import pytest

from stepkit.errors import TableUnfit
from stepkit.table.split import split_table
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

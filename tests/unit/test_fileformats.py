"""The fields of each CSV row are counted as pandas reads them."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepkit.fileformats import UnevenRow, uneven_rows


def uneven(text: str) -> list[tuple[int, ...]]:
    return [tuple(row) for row in uneven_rows(io.StringIO(text, newline=""))]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (["a,b", "1,2", "3,4"], []),
        (["a,b", "1,2,", "3,4"], [(2, 3, 2)]),
        (["a,b", "1,2,,,", "3,4,,,"], [(2, 5, 2), (3, 5, 2)]),
        (["a,b", "1,2", "3"], [(3, 1, 2)]),
        (["a,b", "490,000,2"], [(2, 3, 2)]),
        (["a,b,", "1,2,"], []),
        (["", "a,b", "", "  ", "1,2", "1"], [(6, 1, 2)]),
        (['"a,x",b', '"1,5","2 ""3"""', '"x', 'y",2', "1"], [(5, 1, 2)]),
        (["a", "1", "", "2"], []),
    ],
)
def test_each_row_of_another_length_is_found_with_its_line(
    rows: list[str], found: list[tuple[int, ...]], end: str
) -> None:
    assert uneven(end.join(rows)) == found
    assert uneven(end.join(rows) + end) == found


def test_a_field_may_be_longer_than_pythons_own_limit() -> None:
    assert uneven(f"a,b\n{'x' * 200_000},1\n1\n") == [(3, 1, 2)]


def test_a_row_names_its_line_and_both_counts() -> None:
    assert str(UnevenRow(3, 4, 2)) == "line 3: 4 fields where the header has 2"


@given(st.lists(st.lists(st.text('ab", \n', max_size=3), min_size=1, max_size=4), min_size=1, max_size=4))
def test_a_table_that_pandas_wrote_is_even_and_one_field_more_is_not(cells: list[list[str]]) -> None:
    text = pd.DataFrame(cells, dtype="string").fillna("x").to_csv(index=False)
    assert uneven(text) == []
    assert len(uneven(text.rstrip("\n") + ",\n")) == 1

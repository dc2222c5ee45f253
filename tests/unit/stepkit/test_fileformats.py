"""The fields of each CSV row are counted as pandas reads them."""

from __future__ import annotations

import gzip
import io
import sqlite3
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepkit.errors import TableUnreadable
from stepkit.table.fileformats import UnevenRow, csv_header, expect_even_rows, header_names, uneven_rows


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


def put(folder: Path, content: str | bytes) -> Path:
    path = folder / "t.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (["a", "b"], ["a", "b"]),
        (["", "a", ""], ["Unnamed: 0", "a", "Unnamed: 2"]),
        ([None, float("nan"), 2019, 2019.5, 20240101.0], ["Unnamed: 0", "Unnamed: 1", "2019", "2019.5", "20240101"]),
        ([" a", "a", "A", "a.1"], [" a", "a", "A", "a.1"]),
    ],
)
def test_an_empty_header_is_named_by_its_place(cells: list[object], names: list[str]) -> None:
    assert header_names(cells, "t.csv") == names


@pytest.mark.parametrize("cells", [["a", "b", "a"], ["", "Unnamed: 0"], [2019, "2019"]])
def test_a_name_that_occurs_twice_is_refused(cells: list[object]) -> None:
    with pytest.raises(
        TableUnreadable, match=r"t\.csv: the header has the column '(a|Unnamed: 0|2019)' more than once"
    ):
        header_names(cells, "t.csv")


def sqlite_file(folder: Path) -> bytes:
    with sqlite3.connect(folder / "x.db") as base:
        base.execute("CREATE TABLE t (a)")
    base.close()
    return (folder / "x.db").read_bytes()


FORMATS = [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", r"a Git LFS pointer.*Run `git lfs pull`"),
    (b'[{"a": 1}]', r"JSON\. Save the table in one of the formats \.csv, \.parquet, \.xls, \.xlsx"),
    (b'\n{\n "a": 1}', "JSON"),
    (b"[[1, 2], [3, 4]]", "JSON"),
    (b"%PDF-1.7\n", "a document"),
    (b"<HTML><body>", "a web page"),
    (b"<table class=x><tr>", "a web page"),
    ("\ufeffa,b\n1,2\n".encode("utf-16-le"), "not UTF-8 text, but UTF-16"),
    ("a,b\n1,2\n".encode("utf-16-le"), "not text: it contains zero bytes"),
    (b"PAR1\0\0\0", "a table or document of another format"),
    (b"PK\x03\x04\0\0", "an archive"),
    (gzip.compress(b"a,b"), "an archive"),
]


@pytest.mark.parametrize(
    ("content", "kind"), FORMATS, ids=[kind[:12] + str(place) for place, (_, kind) in enumerate(FORMATS)]
)
def test_another_format_is_named(tmp_path: Path, content: bytes, kind: str) -> None:
    with pytest.raises(TableUnreadable, match=rf"t\.csv is {kind}"):
        csv_header(put(tmp_path, content))


def test_a_database_is_named(tmp_path: Path) -> None:
    with pytest.raises(TableUnreadable, match="an SQLite database"):
        csv_header(put(tmp_path, sqlite_file(tmp_path)))


@pytest.mark.parametrize("header", ["ORC,par1", "[x],b", "{x},y", "Rar!,PK", "<x>,y", "BZh,Obj", "version,b", "a;b,c"])
def test_a_header_that_begins_like_another_format_is_a_header(tmp_path: Path, header: str) -> None:
    assert csv_header(put(tmp_path, f"{header}\n1,2\n")) == header.split(",")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a;b;c\n1;2;3\n", r"separated by semicolons \(;\), not by commas"),
        ("a;b;c\n1,5;2,5;3\n", r"separated by semicolons \(;\), with decimal commas, .*decimal points"),
        ("Notes\n\na;b;c\n1,5;2,5;3\n", "separated by semicolons"),
        ("a\tb\n1\t2\n", "separated by tabs, not by commas"),
        ("a|b\n1|2\n", "separated by bars"),
    ],
)
def test_another_delimiter_is_named(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(TableUnreadable, match=words):
        csv_header(put(tmp_path, content))


@pytest.mark.parametrize(
    "content",
    ["id,list,x\n1,a;b;c;d,2\n2,e;f;g;h,3\n", '"a;b;c",d\n1,2\n', '"a\tb",c\n"1\t2",3\n', "a\nb\nc\n"],
)
def test_a_delimiter_within_fields_is_text(tmp_path: Path, content: str) -> None:
    csv_header(put(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "wanted", "line"),
    [
        ("Loans\na,b,late\n1,2,0\n", ["late"], 2),
        ("Loans\na,b,late\n1,2,0\n", [], 2),
        ("X1,X2,Y\na,b,late\n1,2,0\n", ["late"], 2),
        ("Loans\n\n'a note\na,b,late\n1,2,0\n", [], 4),
        ("X1,X2,Y\n\na,b,late\n1,2,0\n", ["a", "late"], 3),
    ],
)
def test_a_header_below_other_lines_is_pointed_out(tmp_path: Path, content: str, wanted: list[str], line: int) -> None:
    with pytest.raises(TableUnreadable, match=rf"line {line} seems to be the header .*late\), not line 1"):
        csv_header(put(tmp_path, content), wanted)


@pytest.mark.parametrize("content", ["a,b\n1,2\n", 'a,b\r\n"x,y",2\r\n', "a,b\r1,2\r", "\ufeffa,b\n1,2", "a\n1\n\n2\n"])
def test_even_rows_pass(tmp_path: Path, content: str) -> None:
    expect_even_rows(put(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b\n1,2,3\n4,5,6\n", "line 2: 3 fields where the header has 2; line 3: 3 fields"),
        ("a,b\n1,2\n3\n", "line 3: 1 field where"),
        ('a,b\n"x\ny",2\n3\n', "line 4: 1 field where"),
        ("a,b\r1,2\r3\r", "line 3: 1 field where"),
        ("a,b\r1,2\n3\n", "line 3: 1 field where"),
        ("a,b\n" + "1,2,3\n" * 9, "more such lines"),
    ],
)
def test_an_uneven_row_is_refused_with_its_line(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(TableUnreadable, match=words):
        expect_even_rows(put(tmp_path, content))


@given(st.text('a1,"\r\n', max_size=12))
def test_the_fast_count_agrees_with_the_exact_one(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = put(tmp_path_factory.getbasetemp(), text)
    try:
        expect_even_rows(path)
    except TableUnreadable:
        assert uneven(text)
    else:
        assert not uneven(text)

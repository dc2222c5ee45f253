"""Tables: readable and unreadable files, labels, and the input format of the model."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import re
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepkit.errors import TableUnfit, TableUnreadable
from stepkit.table.columns import Columns
from stepkit.table.fileformats import iter_uneven_rows, parse_header, read_csv_header, verify_even_rows
from stepkit.table.labels import get_labels, to_known_labels, verify_labels
from stepkit.table.tables import add_column, compute_sha256, read_table, to_model_input, to_plain_text, write_table
from tests.support.memory import count_bytes, measure_peak_bytes
from tests.support.small_data import CLIENTS, LOANS, make_clients


def list_uneven_rows(text: str) -> list[tuple[int, ...]]:
    return [tuple(row) for row in iter_uneven_rows(io.StringIO(text, newline=""))]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize(
    ("rows", "expected"),
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
    rows: list[str], expected: list[tuple[int, ...]], end: str
) -> None:
    assert list_uneven_rows(end.join(rows)) == expected
    assert list_uneven_rows(end.join(rows) + end) == expected


def test_a_field_may_be_longer_than_pythons_own_limit() -> None:
    assert list_uneven_rows(f"a,b\n{'x' * 200_000},1\n1\n") == [(3, 1, 2)]


@given(st.lists(st.lists(st.text('ab", \n', max_size=3), min_size=1, max_size=4), min_size=1, max_size=4))
def test_a_table_that_pandas_wrote_is_even_and_one_field_more_is_not(cells: list[list[str]]) -> None:
    text = pd.DataFrame(cells, dtype="string").fillna("x").to_csv(index=False)
    assert list_uneven_rows(text) == []
    assert len(list_uneven_rows(text.rstrip("\n") + ",\n")) == 1


def write_content(path: Path, content: str | bytes) -> Path:
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
    assert parse_header(cells, "t.csv") == names


@pytest.mark.parametrize("cells", [["a", "b", "a"], ["", "Unnamed: 0"], [2019, "2019"]])
def test_a_name_that_occurs_twice_is_refused(cells: list[object]) -> None:
    with pytest.raises(
        TableUnreadable, match=r"t\.csv: the header has the column '(a|Unnamed: 0|2019)' more than once"
    ):
        parse_header(cells, "t.csv")


def make_sqlite_file() -> bytes:
    with closing(sqlite3.connect(":memory:")) as base:
        base.execute("CREATE TABLE t (a)")
        return base.serialize()


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
    (make_sqlite_file(), "an SQLite database"),
]


@pytest.mark.parametrize(
    ("content", "kind"), FORMATS, ids=[kind[:12] + str(place) for place, (_, kind) in enumerate(FORMATS)]
)
def test_another_format_is_named(tmp_path: Path, content: bytes, kind: str) -> None:
    with pytest.raises(TableUnreadable, match=rf"t\.csv is {kind}"):
        read_csv_header(write_content(tmp_path / "t.csv", content))


@pytest.mark.parametrize("header", ["ORC,par1", "[x],b", "{x},y", "Rar!,PK", "<x>,y", "BZh,Obj", "version,b", "a;b,c"])
def test_a_header_that_begins_like_another_format_is_a_header(tmp_path: Path, header: str) -> None:
    assert read_csv_header(write_content(tmp_path / "t.csv", f"{header}\n1,2\n")) == header.split(",")


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
        read_csv_header(write_content(tmp_path / "t.csv", content))


@pytest.mark.parametrize(
    "content",
    ["id,list,x\n1,a;b;c;d,2\n2,e;f;g;h,3\n", '"a;b;c",d\n1,2\n', '"a\tb",c\n"1\t2",3\n', "a\nb\nc\n"],
)
def test_a_delimiter_within_fields_is_text(tmp_path: Path, content: str) -> None:
    read_csv_header(write_content(tmp_path / "t.csv", content))


@pytest.mark.parametrize(
    ("content", "expected_names", "line"),
    [
        ("Loans\na,b,late\n1,2,0\n", ["late"], 2),
        ("Loans\na,b,late\n1,2,0\n", [], 2),
        ("X1,X2,Y\na,b,late\n1,2,0\n", ["late"], 2),
        ("Loans\n\n'a note\na,b,late\n1,2,0\n", [], 4),
        ("X1,X2,Y\n\na,b,late\n1,2,0\n", ["a", "late"], 3),
    ],
)
def test_a_header_below_other_lines_is_pointed_out(
    tmp_path: Path, content: str, expected_names: list[str], line: int
) -> None:
    with pytest.raises(TableUnreadable, match=rf"line {line} seems to be the header .*late\), not line 1"):
        read_csv_header(write_content(tmp_path / "t.csv", content), expected_names)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["1,2,3", "4,5,6"], "line 2: 3 fields where the header has 2; line 3: 3 fields"),
        (['"x\ny",2', "3"], "line 4: 1 field where"),
        (["1,2,3"] * 9, "more such lines"),
    ],
)
def test_an_uneven_row_is_refused_with_its_line(tmp_path: Path, rows: list[str], words: str) -> None:
    with pytest.raises(TableUnreadable, match=words):
        verify_even_rows(write_content(tmp_path / "t.csv", "\n".join(["a,b", *rows])))


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_table_comes_back_as_it_was_written(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "folder" / f"table{ending}"
    table = pd.DataFrame({"a": [1, 2, 3], "b": [0.1, 1e-300, 123456.789], "c": ["x", "ö", "y"]})
    write_table(table, path)
    pd.testing.assert_frame_equal(read_table(path), table)


def test_a_csv_is_written_with_unix_line_ends_and_no_index(tmp_path: Path) -> None:
    write_table(pd.DataFrame({"a": [1], "b": [2]}, index=[7]), tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_bytes() == b"a,b\n1,2\n"


def test_another_ending_cannot_be_written_and_the_message_names_those_that_can(tmp_path: Path) -> None:
    with pytest.raises(TableUnreadable, match=r"'t\.xlsx' must end with one of \.csv, \.parquet"):
        write_table(make_clients(), tmp_path / "t.xlsx")


def test_a_spreadsheet_is_read_from_its_header_row_on(tmp_path: Path) -> None:
    rows = [["Credit data", None, None], [None, "X1", "X2"], ["ID", "LIMIT_BAL", "AGE"], [1, 20000, 24], [2, 50000, 57]]
    pd.DataFrame(rows).to_excel(tmp_path / "t.xlsx", index=False, header=False)
    table = read_table(tmp_path / "t.xlsx", header=["AGE", "LIMIT_BAL"])
    expected = pd.DataFrame({"ID": [1, 2], "LIMIT_BAL": [20000, 50000], "AGE": [24, 57]})
    pd.testing.assert_frame_equal(table, expected)


def test_a_spreadsheet_without_cells_is_refused(tmp_path: Path) -> None:
    pd.DataFrame().to_excel(tmp_path / "blank.xlsx", index=False, header=False)
    with pytest.raises(TableUnreadable, match=r"blank\.xlsx has no cells in any visible sheet"):
        read_table(tmp_path / "blank.xlsx")


@pytest.mark.parametrize(
    ("header", "names"),
    [
        (["ID", "AGE"], ["ID", "AGE"]),
        (["AGE"], ["ID", "AGE"]),
        ([], ["a title", "Unnamed: 1"]),
        (["ID", "WEIGHT"], ["ID", "AGE"]),
        (["WEIGHT"], ["a title", "Unnamed: 1"]),
    ],
    ids=["all names", "some names", "nothing to look for", "one name is missing", "a name that is nowhere"],
)
def test_the_header_row_is_the_first_that_holds_most_of_the_names(
    tmp_path: Path, header: list[str], names: list[str]
) -> None:
    sheet = pd.DataFrame([["a title", None], ["ID", "AGE"], ["ID", "AGE"], [1, 24]])
    sheet.to_excel(tmp_path / "t.xlsx", index=False, header=False)
    assert list(read_table(tmp_path / "t.xlsx", header=header)) == names


def test_text_columns_keep_zeros_and_words_that_are_gaps_elsewhere(tmp_path: Path) -> None:
    path = write_content(tmp_path / "t.csv", "branch,amount\n007,None\n010,2\nNone,3\n,4\n")
    table = read_table(path, text=["branch"])
    assert table["branch"].tolist()[:3] == ["007", "010", "None"]
    assert table["branch"].isna().tolist() == [False, False, False, True]
    assert table["amount"].isna().tolist() == [True, False, False, False]
    assert read_table(path)["branch"].tolist()[:2] == [7.0, 10.0], "without `text` they are numbers"


@pytest.mark.parametrize(("content", "names"), [("\ufeffID,AGE\n1,2\n", ["ID", "AGE"]), ("AGE\n24\n", ["AGE"])])
def test_a_byte_order_mark_is_dropped_and_one_column_is_a_table(tmp_path: Path, content: str, names: list[str]) -> None:
    assert list(read_table(write_content(tmp_path / "t.csv", content))) == names


OLD_WORKBOOK = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)
UNREADABLE: dict[str, tuple[bytes, str]] = {
    "empty.csv": (b"", r"is empty \(0 bytes\)"),
    "blank.csv": (b"\n\n", "cannot be read as CSV"),
    "header.csv": (b"ID,AGE\n", "has a header and no rows"),
    "page.csv": (b"\n <!DOCTYPE html><html>Not found</html>", "is a web page"),
    "latin.csv": ("name,AGE\nJos\xe9,2\n".encode("latin-1"), r"is not UTF-8 text \(byte \d+: 0xe9\)"),
    "ragged.csv": (b"ID,AGE\n1,2\n1,2,3,4\n", r", line 3: 4 fields where the header has 2\. "),
    "cut.csv": (b'ID,AGE\n1,"2', "cannot be read as CSV"),
    "text.parquet": (b"ID,AGE\n1,2\n", "cannot be read as Parquet"),
    "cut.parquet": (make_clients().to_parquet()[:-20], "cannot be read as Parquet"),
    "none.parquet": (make_clients().head(0).to_parquet(), "has a header and no rows"),
    "text.xlsx": (b"ID,AGE\n1,2\n", "cannot be read as a spreadsheet"),
    "cut.xlsx": (b"PK\x03\x04 and no more", "cannot be read as a spreadsheet"),
    "cut.xls": (OLD_WORKBOOK, "cannot be read as a spreadsheet"),
    "locked.xls": (OLD_WORKBOOK + "EncryptedPackage".encode("utf-16-le"), "protected by a password"),
    "table.txt": (b"ID,AGE\n1,2\n", r"must end with one of \.csv, \.parquet, \.xls, \.xlsx"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_is_not_a_table_is_rejected_with_name_and_reason(tmp_path: Path, name: str) -> None:
    content, message = UNREADABLE[name]
    with pytest.raises(TableUnreadable, match=f"{re.escape(name)}.*{message}"):
        read_table(write_content(tmp_path / name, content))


def test_the_digest_is_the_sha256_of_the_bytes(tmp_path: Path) -> None:
    assert compute_sha256(write_content(tmp_path / "t.csv", "abc")) == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_model_input_is_doubles_and_texts_in_the_described_order() -> None:
    raw = pd.DataFrame({"default": [1, 0], "branch": ["007", None], "purpose": [pd.NA, "car"], "amount": [1, None]})
    inputs = to_model_input(raw, LOANS)
    assert list(inputs) == ["amount", "purpose", "branch"]
    assert inputs["amount"].dtype == np.float64
    assert inputs["amount"].isna().tolist() == [False, True]
    assert inputs["purpose"].tolist() == ["", "car"]
    assert inputs["branch"].tolist() == ["007", ""]


def test_model_input_takes_whole_numbers_with_gaps() -> None:
    table = make_clients().astype({"AGE": "Int64"})
    table.loc[1, "AGE"] = pd.NA
    inputs = to_model_input(table, CLIENTS)
    assert set(inputs.dtypes) == {np.dtype(float)}
    assert inputs["AGE"].isna().tolist() == [False, True, False, False]


def test_model_input_leaves_the_callers_table_untouched() -> None:
    raw = pd.DataFrame({"amount": [1, 2], "purpose": [None, "car"], "branch": ["1", "2"]})
    before = raw.copy(deep=True)
    inputs = to_model_input(raw.loc[[1, 0]], LOANS)
    inputs.loc[:, "amount"] = 99.0
    pd.testing.assert_frame_equal(raw, before)
    assert inputs.index.tolist() == [1, 0], "the row numbers of a split"


@pytest.mark.parametrize("rows_in_a_group", [2, 100], ids=["several row groups", "one row group"])
def test_a_parquet_file_comes_back_with_its_types_and_may_be_changed(tmp_path: Path, rows_in_a_group: int) -> None:
    table = pd.DataFrame(
        {
            "whole": [1, 2, 3],
            "gappy": pd.array([1, None, 3], dtype="Int64"),
            "double": [0.5, None, 1.5],
            "text": pd.array(["a", None, "ö"], dtype="string"),
            "true": [True, False, True],
        }
    )
    table.to_parquet(tmp_path / "t.parquet", index=False, row_group_size=rows_in_a_group)
    read = read_table(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(read, table)
    read.loc[0, "whole"] = 9
    assert read["whole"].tolist() == [9, 2, 3]


def test_a_folder_named_like_a_partition_adds_no_column(tmp_path: Path) -> None:
    write_table(make_clients(), tmp_path / "year=2005" / "t.parquet")
    assert list(read_table(tmp_path / "year=2005" / "t.parquet")) == list(make_clients())


def test_model_input_copies_each_column_once() -> None:
    table = pd.concat([make_clients()] * 25_000, ignore_index=True)
    inputs = to_model_input(table, CLIENTS)
    assert measure_peak_bytes(lambda: to_model_input(table, CLIENTS)) < 1.2 * count_bytes(inputs)


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (pd.Series([1, 2, 1]), ["1", "2", "1"]),
        (pd.Series([1.0, 2.5, None, 1.0]), ["1", "2.5", None, "1"]),
        (pd.Series([-0.0, 0.0]), ["0", "0"]),
        (pd.Series([0.0, -0.0]), ["0", "0"]),
        (pd.Series([1, None], dtype="Int64"), ["1", None]),
        (pd.Series(["v1.0", "1.0", "1.00", "1.10", None], dtype="string"), ["v1.0", "1", "1", "1.10", None]),
        (pd.Series([1, True, 1.0, "1.0", None], dtype=object), ["1", "True", "1", "1", None]),
        (pd.Series([True, False]), ["True", "False"]),
        (pd.Series([Decimal("1.00"), Decimal("2.50"), None]), ["1", "2.5", None]),
        (pd.Series([1.0, 2.0, 1.0], dtype="category"), ["1", "2", "1"]),
    ],
    ids=range(10),
)
def test_plain_values_are_texts_without_a_fraction_of_zero(values: pd.Series, texts: list[str | None]) -> None:
    plain = to_plain_text(values)
    assert plain.dtype == "string"
    assert [None if pd.isna(text) else text for text in plain] == texts


def test_plain_values_keep_row_numbers_and_name() -> None:
    texts = to_plain_text(pd.Series([1.0, 2.0], index=[7, 3], name="SEX"))
    assert (texts.index.tolist(), texts.name) == ([7, 3], "SEX")


def test_plain_makes_a_text_of_each_code_once_not_of_each_row() -> None:
    codes = pd.Series([1.0, 2.0, 3.0, None] * 25_000)
    assert len({id(text) for text in to_plain_text(codes)}) == 4


def test_a_typed_file_is_read_as_the_same_table_saved_as_csv(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "day": [dt.datetime(2024, 2, 28), dt.datetime(2024, 2, 29), pd.NaT],
            "hour": [dt.time(12), dt.time(13), dt.time(14)],
            "span": pd.to_timedelta([1, 2, 3], unit="h"),
            "price": [Decimal("1.00"), Decimal("2.50"), None],
            "class": pd.Categorical(["a", "b", "a"]),
            "code": pd.Categorical([1, 2, 1]),
            "empty": ["", "NA", "3"],
            "words": ["NA", "", "x"],
            "truth": ["true", "false", None],
            "branch": pd.array([7, None, 8], dtype="Int64"),
            "bytes": [b"yes", b"no", b"\x00\xff"],
        }
    )
    table.to_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet", text=["words", "branch"])
    assert {name: [None if pd.isna(value) else value for value in table[name]] for name in table} == {
        "day": ["2024-02-28", "2024-02-29", None],
        "hour": ["12:00:00", "13:00:00", "14:00:00"],
        "span": ["0 days 01:00:00", "0 days 02:00:00", "0 days 03:00:00"],
        "price": [1.0, 2.5, None],
        "class": ["a", "b", "a"],
        "code": [1, 2, 1],
        "empty": [None, None, 3],
        "words": ["NA", None, "x"],
        "truth": [True, False, None],
        "branch": ["7", None, "8"],
        "bytes": ["yes", "no", r"b'\x00\xff'"],
    }


def test_a_sheet_keeps_texts_of_digits_and_drops_empty_rows(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"code": ["007", "010", None], "day": [dt.datetime(2024, 2, 28), None, None], "on": [True, False, None]}
    )
    table.to_excel(tmp_path / "t.xlsx", index=False)
    table = read_table(tmp_path / "t.xlsx", text=["code"])
    assert table["code"].tolist() == ["007", "010"]
    assert table["on"].tolist() == [True, False]
    assert table["day"].isna().tolist() == [False, True]
    assert table["day"][0] == "2024-02-28"


def test_an_index_with_a_name_is_a_column(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1, 2]}, index=pd.Index([7, 8], name="client")).to_parquet(tmp_path / "t.parquet")
    assert list(read_table(tmp_path / "t.parquet")) == ["client", "a"]


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".xlsx"])
def test_a_column_that_occurs_twice_is_named_in_every_format(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t{ending}"
    if ending == ".csv":
        path.write_text("a,b,a\n1,2,3\n")
    elif ending == ".xlsx":
        pd.DataFrame([["a", "b", "a"], [1, 2, 3]]).to_excel(path, index=False, header=False)
    else:
        pq.write_table(pa.Table.from_arrays([pa.array([1])] * 3, names=["a", "b", "a"]), path)
    with pytest.raises(TableUnreadable, match="column 'a' more than once"):
        read_table(path)


def test_a_hidden_sheet_is_not_the_table(tmp_path: Path) -> None:
    with pd.ExcelWriter(tmp_path / "t.xlsx") as book:
        pd.DataFrame({"a": [1], "late": [0]}).to_excel(book, sheet_name="old", index=False)
        pd.DataFrame({"a": [2], "late": [1]}).to_excel(book, sheet_name="new", index=False)
        book.sheets["old"].sheet_state = "hidden"
    assert read_table(tmp_path / "t.xlsx", header=["late"])["a"].tolist() == [2]


def test_a_workbook_without_the_wanted_column_names_its_sheets(tmp_path: Path) -> None:
    with pd.ExcelWriter(tmp_path / "t.xlsx") as book:
        for name in ("Notes", "Data"):
            pd.DataFrame({"a": [1]}).to_excel(book, sheet_name=name, index=False)
    with pytest.raises(TableUnreadable, match=r"no sheet has the column late .*\(sheets: Notes, Data\)"):
        read_table(tmp_path / "t.xlsx", header=["late"])


def test_errors_and_formulas_of_a_sheet_are_values_or_gaps(tmp_path: Path) -> None:
    rows = [["a", "b", None], [1, "#REF!", "x"], [2, "=1/0", None], [3, "#DIV/0!", None]]
    with pd.ExcelWriter(tmp_path / "t.xlsx") as book:
        pd.DataFrame(rows).to_excel(book, index=False, header=False)
        sheet = book.sheets["Sheet1"]
        sheet["B2"].data_type = sheet["B4"].data_type = "e"
        sheet.merge_cells("A4:B4")
    table = read_table(tmp_path / "t.xlsx")
    assert list(table) == ["a", "b", "Unnamed: 2"]
    assert table["b"].isna().all()


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\r\nb", '"', "a,b", " ", "é", "\u2028", "1"])
def test_any_text_comes_back_from_a_csv(tmp_path: Path, text: str) -> None:
    table = pd.DataFrame({f"{text}name": [text, "x"], "n": [1, 2]})
    write_table(table, tmp_path / "t.csv")
    table = read_table(tmp_path / "t.csv", text=[f"{text}name"])
    assert list(table) == list(table)
    assert table.iloc[:, 0].tolist() == [text, "x"]


def test_a_column_of_any_name_is_replaced_and_the_table_itself_is_not_changed() -> None:
    table = pd.DataFrame({"self": [1, 2], "other": [3, 4]})
    changed = add_column(table, "self", np.array([5, 6]))
    assert changed.to_dict("list") == {"self": [5, 6], "other": [3, 4]}
    assert table["self"].tolist() == [1, 2]


def make_labelled_table(*values: object) -> pd.DataFrame:
    return pd.DataFrame({"late": list(values)})


@pytest.mark.parametrize("read", [verify_labels, get_labels])
def test_rows_without_a_label_are_counted_and_named_with_a_remedy(read: object) -> None:
    rows = make_labelled_table(1, None, 0, None, *[1, None] * 4)
    with pytest.raises(TableUnfit) as caught:
        read(rows, "late")  # type: ignore[operator]
    text = str(caught.value)
    assert "target 'late': 6 of 12 rows have no label: rows 1, 3, 5, 7, 9 and 1 more" in text
    assert "Fill in their labels or remove these rows" in text


def test_one_row_without_a_label_is_one_row() -> None:
    with pytest.raises(TableUnfit, match=r"1 of 3 rows have no label: row 2, counted from 0"):
        verify_labels(make_labelled_table("a", "b", None), "late")


@pytest.mark.parametrize(
    "values", [[0, 1], [0.0, 1.0], ["0", "1"], ["1.00", "0.00"], pd.array([0, 1], "Int64")], ids=str
)
def test_numbers_of_any_type_are_labels(values: list[object]) -> None:
    assert sorted(get_labels(pd.DataFrame({"late": values}), "late").tolist()) == [0, 1]


@pytest.mark.parametrize(("values", "found"), [([0, 1, 2], "0, 1, 2"), ([0, 0], "0"), (["no", 0, 1], "0, 1, no")])
def test_a_target_that_is_not_both_0_and_1_is_refused(values: list[object], found: str) -> None:
    with pytest.raises(TableUnfit, match=rf"'late' must contain both 0 and 1 \(found {found}\)\."):
        get_labels(make_labelled_table(*values), "late")


SAME_NAME = LOANS.model_copy(update={"target": "repaid"})
FLAGS = SAME_NAME.model_copy(update={"negative": "false", "positive": "true"})


@pytest.mark.parametrize(
    ("columns", "values"),
    [
        (LOANS, pd.Series(["yes", "no", None, "maybe"], name="repaid")),
        (LOANS, pd.Series([0, 1, None, 2], name="default")),
        (SAME_NAME, pd.Series(["yes", "no", None, "maybe"], name="repaid")),
        (SAME_NAME, pd.Series([0, 1, None, 2], name="repaid")),
        (FLAGS, pd.Series([False, True, None, None], dtype=object, name="repaid")),
    ],
    ids=["before", "after", "before, one name", "after, one name", "booleans"],
)
def test_labels_are_found_before_and_after_preprocess(columns: Columns, values: pd.Series) -> None:
    assert to_known_labels(values, columns).tolist()[:2] == [0, 1]
    assert np.isnan(to_known_labels(values, columns)[2:]).all()

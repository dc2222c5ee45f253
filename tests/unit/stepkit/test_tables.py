"""stepkit.table.tables: what can be read, what cannot and why, and the form in which a model takes rows."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stepkit.errors import TableUnreadable
from stepkit.table.tables import as_model_input, plain, read_table, sha256_of, with_column, write_table
from tests.support.memory import bytes_of, peak_bytes
from tests.support.small_data import CLIENTS, LOANS, clients


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


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
        write_table(clients(), tmp_path / "t.xlsx")


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


def test_text_columns_keep_their_leading_zeros(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "branch,amount\n007,1\n010,2\n,3\n")
    table = read_table(path, text=["branch"])
    assert table["branch"].tolist()[:2] == ["007", "010"]
    assert table["branch"].isna().tolist() == [False, False, True]
    assert read_table(path)["branch"].tolist()[:2] == [7.0, 10.0], "without `text` they are numbers"


def test_a_byte_order_mark_is_not_part_of_the_first_name(tmp_path: Path) -> None:
    assert list(read_table(written(tmp_path / "t.csv", "\ufeffID,AGE\n1,2\n"))) == ["ID", "AGE"]


def test_a_csv_of_one_column_is_a_table(tmp_path: Path) -> None:
    assert read_table(written(tmp_path / "t.csv", "AGE\n24\n"))["AGE"].tolist() == [24]


UNREADABLE = {
    "empty.csv": (b"", r"empty\.csv is empty \(0 bytes\)"),
    "blank.csv": (b"\n\n", r"blank\.csv cannot be read as CSV"),
    "header.csv": (b"ID,AGE\n", r"header\.csv has a header and no rows"),
    "page.csv": (b"\n <!DOCTYPE html><html>Not found</html>", r"page\.csv is a web page"),
    "xml.csv": (b"<?xml version='1.0'?><Error/>", r"xml\.csv is a web page"),
    "latin.csv": ("name,AGE\nJos\xe9,2\n".encode("latin-1"), r"latin\.csv is not UTF-8 text \(byte \d+: 0xe9\)"),
    "utf16.csv": ("ID,AGE\n1,2\n".encode("utf-16"), r"utf16\.csv is not UTF-8 text, but UTF-16"),
    "ragged.csv": (b"ID,AGE\n1,2\n1,2,3,4\n", r"ragged\.csv, line 3: 4 fields where the header has 2\. "),
    "cut.csv": (b'ID,AGE\n1,"2', r"cut\.csv cannot be read as CSV"),
    "semicolon.csv": (b"ID;AGE\n1;2\n", r"semicolon\.csv is separated by semicolons \(;\), not by commas"),
    "tab.csv": (b"ID\tAGE\n1\t2\n", r"tab\.csv is separated by tabs, not by commas"),
    "bar.csv": (b"ID|AGE\n1|2\n", r"bar\.csv is separated by bars \(\|\), not by commas"),
    "text.parquet": (b"ID,AGE\n1,2\n", r"text\.parquet cannot be read as Parquet"),
    "text.xlsx": (b"ID,AGE\n1,2\n", r"text\.xlsx cannot be read as a spreadsheet"),
    "cut.xlsx": (b"PK\x03\x04 and no more", r"cut\.xlsx cannot be read as a spreadsheet"),
    "table.txt": (b"ID,AGE\n1,2\n", r"table\.txt has none of the endings .*\.csv, \.parquet, \.xls, \.xlsx"),
}


def test_a_cut_workbook_of_the_old_format_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "cut.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    with pytest.raises(TableUnreadable, match=r"cut\.xls cannot be read as a spreadsheet"):
        read_table(path)


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_table_is_refused_by_name_and_reason(tmp_path: Path, name: str) -> None:
    content, message = UNREADABLE[name]
    with pytest.raises(TableUnreadable, match=message):
        read_table(written(tmp_path / name, content))


def test_a_parquet_file_without_rows_is_refused(tmp_path: Path) -> None:
    write_table(clients().head(0), tmp_path / "t.parquet")
    with pytest.raises(TableUnreadable, match="has a header and no rows"):
        read_table(tmp_path / "t.parquet")


def test_a_cut_parquet_file_is_refused(tmp_path: Path) -> None:
    write_table(clients(), tmp_path / "t.parquet")
    whole = (tmp_path / "t.parquet").read_bytes()
    with pytest.raises(TableUnreadable, match="cannot be read as Parquet"):
        read_table(written(tmp_path / "cut.parquet", whole[:-20]))


def test_the_digest_is_the_sha256_of_the_bytes(tmp_path: Path) -> None:
    assert sha256_of(written(tmp_path / "t.csv", "abc")) == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_model_input_is_doubles_and_texts_in_the_described_order() -> None:
    raw = pd.DataFrame({"default": [1, 0], "branch": ["007", None], "purpose": [pd.NA, "car"], "amount": [1, None]})
    taken = as_model_input(raw, LOANS)
    assert list(taken) == ["amount", "purpose", "branch"]
    assert taken["amount"].dtype == np.float64
    assert taken["amount"].isna().tolist() == [False, True]
    assert taken["purpose"].tolist() == ["", "car"]
    assert taken["branch"].tolist() == ["007", ""]


def test_model_input_takes_whole_numbers_with_gaps() -> None:
    table = clients().astype({"AGE": "Int64"})
    table.loc[1, "AGE"] = pd.NA
    taken = as_model_input(table, CLIENTS)
    assert set(taken.dtypes) == {np.dtype(float)}
    assert taken["AGE"].isna().tolist() == [False, True, False, False]


def test_model_input_leaves_the_callers_table_untouched() -> None:
    raw = pd.DataFrame({"amount": [1, 2], "purpose": [None, "car"], "branch": ["1", "2"]})
    before = raw.copy(deep=True)
    taken = as_model_input(raw, LOANS)
    taken.loc[:, "amount"] = 99.0
    pd.testing.assert_frame_equal(raw, before)


def test_none_is_a_category_in_a_text_column_and_a_gap_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "words.csv"
    path.write_text("plan,income\nNone,None\nNA,2\n,3\n")
    table = read_table(path, text=["plan"])
    assert table["plan"].isna().tolist() == [False, False, True]
    assert table["income"].isna().tolist() == [True, False, False]


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
    found = read_table(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(found, table)
    found.loc[0, "whole"] = 9
    assert found["whole"].tolist() == [9, 2, 3]


def test_a_folder_named_like_a_partition_adds_no_column(tmp_path: Path) -> None:
    write_table(clients(), tmp_path / "year=2005" / "t.parquet")
    assert list(read_table(tmp_path / "year=2005" / "t.parquet")) == list(clients())


def test_model_input_keeps_the_row_numbers_of_a_split() -> None:
    part = clients().loc[[2, 0]]
    assert as_model_input(part, CLIENTS).index.tolist() == [2, 0]


def test_model_input_copies_each_column_once() -> None:
    table = pd.concat([clients()] * 25_000, ignore_index=True)
    taken = as_model_input(table, CLIENTS)
    assert peak_bytes(lambda: as_model_input(table, CLIENTS)) < 1.2 * bytes_of(taken)


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
    ids=[
        "whole",
        "doubles",
        "minus zero first",
        "minus zero last",
        "gaps",
        "texts",
        "mixed",
        "booleans",
        "decimals",
        "categories",
    ],
)
def test_plain_values_are_texts_without_a_fraction_of_zero(values: pd.Series, texts: list[str | None]) -> None:
    found = plain(values)
    assert found.dtype == "string"
    assert [None if pd.isna(text) else text for text in found] == texts


def test_plain_values_keep_row_numbers_and_name() -> None:
    found = plain(pd.Series([1.0, 2.0], index=[7, 3], name="SEX"))
    assert (found.index.tolist(), found.name) == ([7, 3], "SEX")


def test_plain_makes_a_text_of_each_code_once_not_of_each_row() -> None:
    codes = pd.Series([1.0, 2.0, 3.0, None] * 25_000)
    assert len({id(text) for text in plain(codes)}) == 4


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
    found = read_table(tmp_path / "t.parquet", text=["words", "branch"])
    assert {name: [None if pd.isna(value) else value for value in found[name]] for name in found} == {
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
    found = read_table(tmp_path / "t.xlsx", text=["code"])
    assert found["code"].tolist() == ["007", "010"]
    assert found["on"].tolist() == [True, False]
    assert found["day"].isna().tolist() == [False, True]
    assert found["day"][0] == "2024-02-28"


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


def test_a_workbook_with_a_password_is_named_as_such(tmp_path: Path) -> None:
    content = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "EncryptedPackage".encode("utf-16-le")
    with pytest.raises(TableUnreadable, match="protected by a password"):
        read_table(written(tmp_path / "t.xls", content))


def test_errors_and_formulas_of_a_sheet_are_values_or_gaps(tmp_path: Path) -> None:
    rows = [["a", "b", None], [1, "#REF!", "x"], [2, "=1/0", None], [3, "#DIV/0!", None]]
    with pd.ExcelWriter(tmp_path / "t.xlsx") as book:
        pd.DataFrame(rows).to_excel(book, index=False, header=False)
        sheet = book.sheets["Sheet1"]
        sheet["B2"].data_type = sheet["B4"].data_type = "e"
        sheet.merge_cells("A4:B4")
    found = read_table(tmp_path / "t.xlsx")
    assert list(found) == ["a", "b", "Unnamed: 2"]
    assert found["b"].isna().all()


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\r\nb", '"', "a,b", " ", "é", "\u2028", "1"])
def test_any_text_comes_back_from_a_csv(tmp_path: Path, text: str) -> None:
    table = pd.DataFrame({f"{text}name": [text, "x"], "n": [1, 2]})
    write_table(table, tmp_path / "t.csv")
    found = read_table(tmp_path / "t.csv", text=[f"{text}name"])
    assert list(found) == list(table)
    assert found.iloc[:, 0].tolist() == [text, "x"]


@pytest.mark.parametrize("name", ["self", "x", "index", "columns", "a b"])
def test_a_column_of_any_name_is_replaced_and_the_table_itself_is_not_changed(name: str) -> None:
    table = pd.DataFrame({name: [1, 2], "other": [3, 4]})
    changed = with_column(table, name, np.array([5, 6]))
    assert changed.to_dict("list") == {name: [5, 6], "other": [3, 4]}
    assert table[name].tolist() == [1, 2]

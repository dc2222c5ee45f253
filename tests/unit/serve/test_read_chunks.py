"""Tables in chunks: the block size does not matter, and an error names the line and column."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from serve.batch import read_chunks
from serve.batch.checkpoint import to_csv
from serve.batch.read_chunks import ColumnSelection, iter_chunks, read_header
from serve.batch.run import make_parser, select_kept_columns
from stepkit.errors import BadParameter, TableUnfit
from stepkit.table.tables import read_table

SELECTION = ColumnSelection(("a", "b"), ("t",), ("id", "a"))
TABLE = pd.DataFrame({"id": ["01", "02", "03", "04", "05"], "t": list("vwxyz"), "b": [1.5, 2, 3, 4, 5], "a": range(5)})


def write_table(folder: Path, ending: str) -> Path:
    path = folder / f"table{ending}"
    TABLE.to_csv(path, index=False) if ending == ".csv" else TABLE.to_parquet(path)
    return path


@pytest.mark.parametrize("rows", [1, 2, 5, 9])
@pytest.mark.parametrize("block", [40, 1 << 20])
@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_chunks_have_the_requested_rows_for_any_block_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, block: int, rows: int
) -> None:
    monkeypatch.setattr(read_chunks, "BLOCK_BYTES", block)
    chunks, shares = zip(*iter_chunks(write_table(tmp_path, ending), SELECTION, rows), strict=True)
    assert list(shares) == sorted(shares)
    assert shares[-1] == 1.0
    assert [chunk.num_rows for chunk in chunks[:-1]] == [rows] * (len(chunks) - 1)
    table = pa.concat_tables(chunks).to_pandas()
    assert table.columns.tolist() == ["a", "b", "t", "id"]
    assert table["id"].tolist() == TABLE["id"].tolist()
    assert table["a"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("gap", ["", "NA", "NaN", "null", "None", "#N/A"])
def test_a_gap_is_missing_in_a_number_and_unchanged_in_a_text(tmp_path: Path, gap: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"t,b,a,id\n{gap},{gap},1,7\n")
    ((table, _),) = iter_chunks(path, SELECTION, 10)
    assert table.to_pylist() == [{"a": 1.0, "b": None, "t": gap, "id": "7"}]


def test_a_quoted_line_break_is_part_of_its_value(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text('t,b,a,id\n"x\ny",1,1,"7,""8"\n')
    ((table, _),) = iter_chunks(path, SELECTION, 10)
    assert table.to_pylist()[0]["t"] == "x\ny"
    assert to_csv(table.select(["id", "a"]), header=True) == b'"id","a"\n"7,""8",1\n'


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("block", [40, 1 << 20])
@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a,b,t,id", '1,1,"x', 'y",7', "1,none,z,8"], "line 4, column b: invalid value 'none'"),
        (["", "a,b,t,id", "", '1,1,"x', "", 'y",7', "", "none,1,z,8"], "line 8, column a: invalid value 'none'"),
        (["unused,t,b,a,id", "0,x,1,1,7", "0,x,none,1,8"], "line 3, column b: invalid value 'none'"),
        (["a,b,t,id", '1,1,"x', 'y",7', "1,1,z"], "line 4: 3 fields where the header has 4"),
        (["a,b,t,id", "", '1,1,"x', 'y",7', "1,1,z,8,9"], "line 5: 5 fields where the header has 4"),
    ],
)
def test_an_error_names_the_line_that_an_editor_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str], message: str, block: int, end: str
) -> None:
    monkeypatch.setattr(read_chunks, "BLOCK_BYTES", block)
    path = tmp_path / "table.csv"
    path.write_bytes(end.join([*lines, ""]).encode())
    with pytest.raises(TableUnfit, match=re.escape(message)):
        list(iter_chunks(path, SELECTION, 10))


@pytest.mark.parametrize(
    ("header", "names"),
    [
        (",a,b,t,id", ["Unnamed: 0", "a", "b", "t", "id"]),
        ("a,,b,,t,id", ["a", "Unnamed: 1", "b", "Unnamed: 3", "t", "id"]),
        ("\n\na,b,t,id,", ["a", "b", "t", "id", "Unnamed: 4"]),
        ('"a","b","t","i\nd"', ["a", "b", "t", "i\nd"]),
    ],
)
def test_a_header_is_read_as_in_training(tmp_path: Path, header: str, names: list[str]) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"{header}\n{','.join(str(index) for index in range(len(names)))}\n")
    assert read_header(path) == names == read_table(path).columns.tolist()
    ((table, _),) = iter_chunks(path, ColumnSelection(tuple(names), (), ()), 10)
    assert table.to_pylist() == [{name: float(index) for index, name in enumerate(names)}]


def test_a_byte_order_mark_is_not_part_of_the_header(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    TABLE.to_csv(path, index=False, encoding="utf-8-sig")
    assert read_header(path) == TABLE.columns.tolist()
    ((table, _),) = iter_chunks(path, SELECTION, 10)
    assert table.num_rows == len(TABLE)


def test_texts_are_quoted_only_if_they_need_it() -> None:
    assert to_csv(pa.table({"id": ["01", ""], "p": [0.25, 1e-9]}), header=True) == b"id,p\n01,0.25\n,1e-9\n"
    assert to_csv(pa.table({"id": ["a,b"], "p": [0.25]}), header=False) == b'"a,b",0.25\n'


def test_keep_selects_the_columns_to_copy() -> None:
    header = ["ID", "AGE", "note"]
    assert select_kept_columns("others", "t.csv", header, ["AGE"]) == ("ID", "note")
    assert select_kept_columns("note, ID", "t.csv", header, ["AGE"]) == ("note", "ID")
    assert select_kept_columns("ID, AGE,ID", "t.csv", header, ["AGE"]) == ("ID", "AGE")
    assert select_kept_columns("none", "t.csv", header, ["AGE"]) == ()
    with pytest.raises(BadParameter, match="column class has the name of an output column"):
        select_kept_columns("all", "t.csv", ["class"], [])


def test_a_chunk_has_at_least_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        make_parser().parse_args(["--input", "a.csv", "--output", "b.csv", "--chunk_rows", "0"])
    assert "chunk_rows" in capsys.readouterr().err

"""Read and write tables: CSV, Parquet and Excel, with one message for a file that is not a table.

A Parquet file or a sheet is read as the same table saved as CSV: dates are texts, decimals are numbers.
"""

from __future__ import annotations

import csv
import io
import itertools
import warnings
from collections.abc import Collection, Hashable
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stepkit.errors import TableUnfit, TableUnreadable
from stepkit.files import compute_sha256 as compute_sha256
from stepkit.table.columns import Columns
from stepkit.table.fileformats import (
    HEADER_LINES,
    MISSING,
    WRITABLE,
    get_suffix,
    parse_header,
    read_csv_header,
    verify_even_rows,
)


def read_table(path: Path, text: Collection[str] = (), header: Collection[str] = ()) -> pd.DataFrame:
    """Read a table of n rows from `path`; its ending says the format.

    Args:
        path: a file that ends with one of `READABLE`.
        text: columns kept as text, so that a code such as "007" keeps its zeros.
        header: column names by which the sheet and the header row of a spreadsheet are found.

    Raises:
        TableUnreadable: no known ending, empty, no cells, no rows, another format or encoding, cut off, a column name
            that occurs twice, a row with more or fewer fields than the header.
    """
    ending = get_suffix(path)
    if path.stat().st_size == 0:
        raise TableUnreadable(f"{path.name} is empty (0 bytes). Ask the source for the file again.")
    if ending == ".parquet":
        table = _read_parquet(path, text)
    elif ending in (".xls", ".xlsx"):
        table = _read_excel(path, text, header)
    else:
        table = _read_csv(path, text, header)
    if table.empty:
        raise TableUnreadable(f"{path.name} has a header and no rows.")
    return table


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write `table` without its index, as the ending of `path` says (`WRITABLE`)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    elif path.suffix == ".csv":
        # the writer quotes a field that has the line end \n in it by itself, but not \r, which ends a line as well
        texts = [table[name].unique() for name, kind in table.dtypes.items() if kind.kind not in "iufbM"]
        returns = any("\r" in str(text) for text in (*table.columns, *itertools.chain(*texts)))
        quoted: Literal[0, 2] = csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
        table.to_csv(path, index=False, lineterminator="\n", quoting=quoted)
    else:
        raise TableUnreadable(f"'{path.name}' must end with one of {', '.join(WRITABLE)}.")


def _read_csv(path: Path, text: Collection[str], wanted: Collection[str]) -> pd.DataFrame:
    names = read_csv_header(path, wanted)
    verify_even_rows(path)
    try:
        return _parse(path, names, text, header=0)
    except UnicodeDecodeError as error:
        raise TableUnreadable(
            f"{path.name} is not UTF-8 text (byte {error.start}: 0x{error.object[error.start]:02x}). "
            "Save it as UTF-8 and try again."
        ) from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, EOFError, OSError) as error:
        raise TableUnreadable(f"{path.name} cannot be read as CSV: {str(error).strip()}.") from error


def _parse(source: Path | io.StringIO, names: list[str], text: Collection[str], header: int | None) -> pd.DataFrame:
    """Return the rows of a CSV: which texts are missing values, numbers or booleans is decided here alone."""
    dtypes: dict[Hashable, str] = dict.fromkeys(text, "string")
    missing = {name: [""] if name in dtypes else MISSING for name in names}
    with warnings.catch_warnings():
        # a wrong type is judged later, with the rows that show it; pandas' hint would only precede that
        warnings.simplefilter("ignore", pd.errors.DtypeWarning)
        table: pd.DataFrame = pd.read_csv(
            source,
            names=names,
            header=header,
            index_col=False,
            dtype=dtypes,
            na_values=missing,
            keep_default_na=False,
            low_memory=False,
            float_precision="round_trip",
        )
    return table


def _read_parquet(path: Path, text: Collection[str]) -> pd.DataFrame:
    try:
        parse_header(pq.read_schema(path).names, path.name)
        arrow = pq.read_table(path, partitioning=None, pre_buffer=False)
        # in a large file each column stands in pieces, is put together alone, and its pieces go at once; a column of
        # one piece would stay Arrow's memory, which nobody may write to
        in_pieces = all(column.num_chunks > 1 for column in arrow.columns)
        table: pd.DataFrame = arrow.to_pandas(self_destruct=True, split_blocks=in_pieces)
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise TableUnreadable(f"{path.name} cannot be read as Parquet: {str(error).strip()}") from error
    if any(table.index.names):
        table = table.reset_index()
    return _to_csv_columns(table, path, text)


def _read_excel(path: Path, text: Collection[str], wanted: Collection[str]) -> pd.DataFrame:
    try:
        with pd.ExcelFile(path) as book:
            name, top = _find_header(book, path, set(wanted))
            sheet = _read_sheet(book, name)
    except TableUnreadable:
        raise
    except Exception as error:  # xlrd raises whatever its parser trips over: CompDocError, struct.error, IndexError
        locked = b"E\0n\0c\0r\0y\0p\0t\0e\0d\0P" in path.read_bytes()
        cause = "it is protected by a password. Save it without one" if locked else str(error).strip()
        raise TableUnreadable(f"{path.name} cannot be read as a spreadsheet: {cause}") from error
    table = sheet.iloc[top + 1 :].dropna(how="all").reset_index(drop=True)
    table.columns = pd.Index(sheet.iloc[top])
    return _to_csv_columns(table.infer_objects(), path, text)


def _read_sheet(book: pd.ExcelFile, name: str, rows: int | None = None) -> pd.DataFrame:
    # as objects, or pandas turns a column of texts such as 010 into numbers
    sheet: pd.DataFrame = book.parse(name, nrows=rows, header=None, dtype=object, na_values=[""], keep_default_na=False)
    return sheet


def _find_header(book: pd.ExcelFile, path: Path, wanted: set[str]) -> tuple[str, int]:
    """Return the sheet and its row with most of the wanted names, else the first row; hidden sheets do not count."""
    places: list[tuple[int, int, str, int]] = []
    for name in [str(name) for name in book.sheet_names if _is_visible(book, str(name))]:
        for row, cells in _read_sheet(book, name, HEADER_LINES).iterrows():
            found = len({str(cell) for cell in cells} & wanted)
            places.append((found, cells.notna().sum() if found else 0, name, int(str(row))))
    if not places:
        raise TableUnreadable(f"{path.name} has no cells in any visible sheet. Show the sheet of the table.")
    found, _, name, row = max(places, key=lambda place: place[:2])
    sheets = dict.fromkeys(place[2] for place in places)
    if wanted and not found and len(sheets) > 1:
        raise TableUnreadable(
            f"{path.name}: no sheet has the column {' or '.join(sorted(wanted)[:5])} in its first {HEADER_LINES} rows "
            f"(sheets: {', '.join(sheets)}). Correct the name, or save the sheet of the table alone."
        )
    return name, row


def _is_visible(book: pd.ExcelFile, name: str) -> bool:
    old = hasattr(book.book, "sheet_by_name")
    return bool(book.book.sheet_by_name(name).visibility == 0 if old else book.book[name].sheet_state == "visible")


def _to_csv_columns(table: pd.DataFrame, path: Path, text: Collection[str]) -> pd.DataFrame:
    """Return a typed table with the columns that reading it from a CSV would give."""
    table.columns = pd.Index(parse_header(table.columns, path.name))
    for name in table.columns:
        values = table[name]
        if name in text:
            texts = to_plain_text(values) if values.dtype.kind in "iuf" else _to_texts(values)
            table[name] = texts.where(texts != "")
        elif values.dtype.kind not in "iuf" and not pd.api.types.is_bool_dtype(values):
            table[name] = _parse_texts(_to_texts(values))
    return table


def _to_texts(values: pd.Series) -> pd.Series:
    if pd.api.types.infer_dtype(values, skipna=True) == "string":
        return values
    # pandas leaves the time out where it is midnight in each row
    texts = values.astype(str) if values.dtype.kind == "M" else values.map(_to_text, na_action="ignore")
    return texts.astype("string").where(values.notna())


def _to_text(value: object) -> str:
    if not isinstance(value, bytes):
        return str(value)
    text = value.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else repr(value)


def _parse_texts(texts: pd.Series) -> pd.Series:
    """Return n texts as the numbers, booleans, texts or missing values that they are in a CSV."""
    places, distinct = pd.factorize(texts)
    lines = pd.Series(distinct, dtype="string").to_csv(header=False, index=False, quoting=csv.QUOTE_ALL)
    parsed = _parse(io.StringIO(lines or "\n"), ["text"], (), header=None)["text"]
    if parsed.dtype == object and parsed.notna().all():
        return texts
    return pd.Series(parsed.reindex(places).array, index=texts.index, name=texts.name)


def add_column(table: pd.DataFrame, name: str, values: Any) -> pd.DataFrame:
    """Return `table` with the column `name` added or replaced; unlike DataFrame.assign, any name works ("self" too)."""
    changed = table.copy(deep=False)
    changed[name] = values
    return changed


def to_model_input(table: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return doubles, and texts whose gaps are the empty text; raise TableUnfit if a number is something else."""
    taken = {
        name: _fill_texts(table[name]) if name in columns.text else _to_doubles(table[name]) for name in columns.names
    }
    # each column is a fresh copy already
    return pd.DataFrame(taken, index=table.index, copy=False)


def _fill_texts(values: pd.Series) -> pd.Series:
    return values.astype(object).where(values.notna(), "").astype(str)


def _to_doubles(values: pd.Series) -> pd.Series:
    try:
        return values.astype(float)
    except (ValueError, TypeError) as error:
        raise TableUnfit(
            f"column {values.name} holds what is no number ({error}). Run check_data to see the rows."
        ) from error


def to_plain_text(values: pd.Series) -> pd.Series:
    """Return n values as text, whole numbers without a fraction: 1.0 and 1 are the same code; gaps stay gaps."""
    if pd.api.types.infer_dtype(values, skipna=True) == "decimal":
        values = values.astype(float)
    if values.dtype == object:
        # 1 and True are equal in there, and yet not the same text
        return _strip_fraction(values)
    # a column of codes holds millions of rows and a few dozen values
    places, distinct = pd.factorize(values)
    texts = _strip_fraction(
        pd.Series(distinct + 0.0 if values.dtype.kind == "f" else distinct)
    )  # -0.0 and 0.0 are equal too
    return pd.Series(texts.array.take(places, allow_fill=True), index=values.index, name=values.name)


def _strip_fraction(values: pd.Series) -> pd.Series:
    return values.astype("string").str.replace(r"^(-?\d+)\.0+$", r"\1", regex=True)

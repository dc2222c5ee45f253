"""Tables as CSV, Parquet and Excel files, with a clear message for a file that is not a table.

Parquet files and sheets give the same values as the table saved as CSV: dates are texts, decimals are numbers.
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
    """Return the table in a file; the suffix selects the format.

    Args:
        path: file with one of the suffixes in `READABLE`.
        text: columns to keep as text, so that a code such as "007" keeps its zeros.
        header: column names that identify the sheet and the header row of a spreadsheet.

    Raises:
        TableUnreadable: the file is empty, truncated, or of another format or encoding; the header has a duplicate; or
            a row has more or fewer fields than the header.
    """
    suffix = get_suffix(path)
    if path.stat().st_size == 0:
        raise TableUnreadable(f"{path.name} is empty (0 bytes). Ask the source for the file again.")
    if suffix == ".parquet":
        table = _read_parquet(path, text)
    elif suffix in (".xls", ".xlsx"):
        table = _read_excel(path, text, header)
    else:
        table = _read_csv(path, text, header)
    if table.empty:
        raise TableUnreadable(f"{path.name} has a header and no rows.")
    return table


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table without its index; the suffix of `path` (one of `WRITABLE`) selects the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    elif path.suffix == ".csv":
        # Pandas quotes a field that contains \n, but not one that contains \r, which also ends a line.
        texts = [table[name].unique() for name, kind in table.dtypes.items() if kind.kind not in "iufbM"]
        returns = any("\r" in str(text) for text in (*table.columns, *itertools.chain(*texts)))
        quoted: Literal[0, 2] = csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
        table.to_csv(path, index=False, lineterminator="\n", quoting=quoted)
    else:
        raise TableUnreadable(f"'{path.name}' must end with one of {', '.join(WRITABLE)}.")


def _read_csv(path: Path, text: Collection[str], expected_names: Collection[str]) -> pd.DataFrame:
    names = read_csv_header(path, expected_names)
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
    """Return the rows of a CSV; the one place that decides which texts are missing values, numbers or booleans."""
    dtypes: dict[Hashable, str] = dict.fromkeys(text, "string")
    missing = {name: [""] if name in dtypes else MISSING for name in names}
    with warnings.catch_warnings():
        # check_data reports wrong types later, with example rows, so pandas' warning adds nothing.
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
        # In a large file each column has several chunks, which are freed as soon as the column is converted. A column
        # with one chunk would remain Arrow's memory, which is read-only.
        is_chunked = all(column.num_chunks > 1 for column in arrow.columns)
        table: pd.DataFrame = arrow.to_pandas(self_destruct=True, split_blocks=is_chunked)
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise TableUnreadable(f"{path.name} cannot be read as Parquet: {str(error).strip()}") from error
    if any(table.index.names):
        table = table.reset_index()
    return _to_csv_columns(table, path, text)


def _read_excel(path: Path, text: Collection[str], expected_names: Collection[str]) -> pd.DataFrame:
    try:
        with pd.ExcelFile(path) as book:
            name, top = _find_header(book, path, set(expected_names))
            sheet = _read_sheet(book, name)
    except TableUnreadable:
        raise
    except Exception as error:  # xlrd raises many kinds: CompDocError, struct.error, IndexError
        locked = b"E\0n\0c\0r\0y\0p\0t\0e\0d\0P" in path.read_bytes()
        cause = "it is protected by a password. Remove the password" if locked else str(error).strip()
        raise TableUnreadable(f"{path.name} cannot be read as a spreadsheet: {cause}") from error
    table = sheet.iloc[top + 1 :].dropna(how="all").reset_index(drop=True)
    table.columns = pd.Index(sheet.iloc[top])
    return _to_csv_columns(table.infer_objects(), path, text)


def _read_sheet(book: pd.ExcelFile, name: str, rows: int | None = None) -> pd.DataFrame:
    # As objects, since pandas would turn a column of texts such as 010 into numbers.
    sheet: pd.DataFrame = book.parse(name, nrows=rows, header=None, dtype=object, na_values=[""], keep_default_na=False)
    return sheet


def _find_header(book: pd.ExcelFile, path: Path, expected_names: set[str]) -> tuple[str, int]:
    """Return the visible sheet, and its row with the most expected names or else the first row."""
    candidates: list[tuple[int, int, str, int]] = []
    for name in [str(name) for name in book.sheet_names if _is_visible(book, str(name))]:
        for row, cells in _read_sheet(book, name, HEADER_LINES).iterrows():
            matches = len({str(cell) for cell in cells} & expected_names)
            candidates.append((matches, cells.notna().sum() if matches else 0, name, int(str(row))))
    if not candidates:
        raise TableUnreadable(f"{path.name} has no cells in any visible sheet. Unhide the sheet of the table.")
    matches, _, name, row = max(candidates, key=lambda candidate: candidate[:2])
    sheets = dict.fromkeys(candidate[2] for candidate in candidates)
    if expected_names and not matches and len(sheets) > 1:
        raise TableUnreadable(
            f"{path.name}: no sheet has the column {' or '.join(sorted(expected_names)[:5])} in its first "
            f"{HEADER_LINES} rows (sheets: {', '.join(sheets)}). Correct the name, or save only its sheet."
        )
    return name, row


def _is_visible(book: pd.ExcelFile, name: str) -> bool:
    is_xls = hasattr(book.book, "sheet_by_name")
    return bool(book.book.sheet_by_name(name).visibility == 0 if is_xls else book.book[name].sheet_state == "visible")


def _to_csv_columns(table: pd.DataFrame, path: Path, text: Collection[str]) -> pd.DataFrame:
    """Return a typed table with the same column types and values as the table read from a CSV."""
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
    # Pandas omits the time if it is midnight in every row.
    texts = values.astype(str) if values.dtype.kind == "M" else values.map(_to_text, na_action="ignore")
    return texts.astype("string").where(values.notna())


def _to_text(value: object) -> str:
    if not isinstance(value, bytes):
        return str(value)
    text = value.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else repr(value)


def _parse_texts(texts: pd.Series) -> pd.Series:
    """Return n texts as the numbers, booleans, texts or missing values that a CSV would give."""
    places, distinct = pd.factorize(texts)
    lines = pd.Series(distinct, dtype="string").to_csv(header=False, index=False, quoting=csv.QUOTE_ALL)
    parsed = _parse(io.StringIO(lines or "\n"), ["text"], (), header=None)["text"]
    if parsed.dtype == object and parsed.notna().all():
        return texts
    return pd.Series(parsed.reindex(places).array, index=texts.index, name=texts.name)


def add_column(table: pd.DataFrame, name: str, values: Any) -> pd.DataFrame:
    """Return `table` with a column added or replaced; unlike DataFrame.assign, any name works, even "self"."""
    copy = table.copy(deep=False)
    copy[name] = values
    return copy


def to_model_input(table: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return the input columns as doubles and texts, with "" for a missing text; raise TableUnfit for a non-number."""
    series = {
        name: _fill_texts(table[name]) if name in columns.text else _to_doubles(table[name]) for name in columns.names
    }
    # Each column is already a new copy.
    return pd.DataFrame(series, index=table.index, copy=False)


def _fill_texts(values: pd.Series) -> pd.Series:
    return values.astype(object).where(values.notna(), "").astype(str)


def _to_doubles(values: pd.Series) -> pd.Series:
    try:
        return values.astype(float)
    except (ValueError, TypeError) as error:
        raise TableUnfit(f"column {values.name}: not a number ({error}). Run check_data to see the rows.") from error


def to_plain_text(values: pd.Series) -> pd.Series:
    """Return n values as text, with 1.0 and 1 as the same text "1"; missing values stay missing."""
    if pd.api.types.infer_dtype(values, skipna=True) == "decimal":
        values = values.astype(float)
    if values.dtype == object:
        # 1 and True are equal as objects but differ as texts.
        return _strip_fraction(values)
    # A column of codes has millions of rows but only a few dozen values.
    places, distinct = pd.factorize(values)
    texts = _strip_fraction(pd.Series(distinct + 0.0 if values.dtype.kind == "f" else distinct))  # turns -0.0 into 0.0
    return pd.Series(texts.array.take(places, allow_fill=True), index=values.index, name=values.name)


def _strip_fraction(values: pd.Series) -> pd.Series:
    return values.astype("string").str.replace(r"^(-?\d+)\.0+$", r"\1", regex=True)

"""Read and write tables: CSV, Parquet and Excel, with one message for what is no table."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Collection, Hashable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stepkit.columns import Columns
from stepkit.errors import TableUnfit, TableUnreadable
from stepkit.fileformats import MISSING, WRITABLE, ending_of, refuse_markup, refuse_other_delimiter

EXCEL_HEADER_ROWS = 10
"""How many rows of a sheet are searched for the header: titles and groupings often stand above it."""


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_table(path: Path, text: Collection[str] = (), header: Collection[str] = ()) -> pd.DataFrame:
    """Read a table of n rows from `path`; its ending says the format.

    Args:
        path: a file that ends with one of `READABLE`.
        text: columns kept as text, so that a code such as "007" keeps its zeros.
        header: column names by which the header row of a spreadsheet is found.

    Raises:
        TableUnreadable: no known ending, empty, no cells, no rows, an HTML page, another encoding, cut off.
    """
    ending = ending_of(path)
    if path.stat().st_size == 0:
        raise TableUnreadable(f"{path.name} is empty (0 bytes). Ask the source for the file again.")
    if ending == ".parquet":
        table = _read_parquet(path)
    elif ending in (".xls", ".xlsx"):
        table = _read_excel(path, header)
    else:
        table = _read_csv(path, text)
    return _with_rows(table, path)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write `table` without its index, as the ending of `path` says (`WRITABLE`)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    elif path.suffix == ".csv":
        table.to_csv(path, index=False, lineterminator="\n")
    else:
        raise TableUnreadable(f"'{path.name}' must end with one of {', '.join(WRITABLE)}.")


def _read_csv(path: Path, text: Collection[str]) -> pd.DataFrame:
    refuse_markup(path)
    dtypes: dict[Hashable, str] = dict.fromkeys(text, "string")
    try:
        with warnings.catch_warnings():
            # a wrong type is judged later, with the rows that show it; pandas' hint would only precede that
            warnings.simplefilter("ignore", pd.errors.DtypeWarning)
            header = pd.read_csv(path, nrows=0).columns
            missing = {name: [""] if name in dtypes else MISSING for name in header}
            table = pd.read_csv(
                path,
                dtype=dtypes,
                na_values=missing,
                keep_default_na=False,
                low_memory=False,
                float_precision="round_trip",
            )
    except UnicodeDecodeError as error:
        raise TableUnreadable(
            f"{path.name} is not UTF-8 text (byte {error.start}: 0x{error.object[error.start]:02x}). "
            "Save it as UTF-8 and try again."
        ) from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, EOFError, OSError) as error:
        raise TableUnreadable(f"{path.name} cannot be read as CSV: {str(error).strip()}.") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise TableUnreadable(f"{path.name} has rows with more fields than its header. Mend the header or the rows.")
    if len(table.columns) == 1:
        refuse_other_delimiter(path, str(table.columns[0]))
    return table


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        arrow = pq.read_table(path, partitioning=None, pre_buffer=False)
        # in a large file each column stands in pieces, is put together alone, and its pieces go at once; a column of
        # one piece would stay Arrow's memory, which nobody may write to
        in_pieces = all(column.num_chunks > 1 for column in arrow.columns)
        table: pd.DataFrame = arrow.to_pandas(self_destruct=True, split_blocks=in_pieces)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise TableUnreadable(f"{path.name} cannot be read as Parquet: {str(error).strip()}") from error
    return table


def _read_excel(path: Path, header: Collection[str]) -> pd.DataFrame:
    try:
        sheet = pd.read_excel(path, header=None)
    except Exception as error:  # xlrd raises whatever its parser trips over: CompDocError, struct.error, IndexError
        raise TableUnreadable(f"{path.name} cannot be read as a spreadsheet: {str(error).strip()}") from error
    if sheet.empty:
        raise TableUnreadable(f"{path.name} has no cells in its first sheet. Move the table there and try again.")
    top = header_row(sheet, header)
    table = sheet.iloc[top + 1 :].reset_index(drop=True)
    table.columns = pd.Index([str(name) for name in sheet.iloc[top]])
    return table.infer_objects()


def header_row(sheet: pd.DataFrame, header: Collection[str]) -> int:
    """Return the first of the top rows of `sheet` that holds every name of `header`, else 0."""
    wanted = set(header)
    for row in range(min(EXCEL_HEADER_ROWS, len(sheet))):
        if wanted and wanted <= {str(cell) for cell in sheet.iloc[row]}:
            return row
    return 0


def _with_rows(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    if table.empty:
        raise TableUnreadable(f"{path.name} has a header and no rows.")
    return table


def as_model_input(table: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return the input columns as a model takes them: doubles, and texts whose gaps are the empty text.

    Raises:
        TableUnfit: a column of numbers holds something else.
    """
    taken = {name: _texts(table[name]) if name in columns.text else _doubles(table[name]) for name in columns.names}
    # each column is a fresh copy already
    return pd.DataFrame(taken, index=table.index, copy=False)


def _texts(values: pd.Series) -> pd.Series:
    return values.astype(object).where(values.notna(), "").astype(str)


def _doubles(values: pd.Series) -> pd.Series:
    try:
        return values.astype(float)
    except (ValueError, TypeError) as error:
        raise TableUnfit(
            f"column {values.name} holds what is no number ({error}). Run check_data to see the rows."
        ) from error


def plain(values: pd.Series) -> pd.Series:
    """Return n values as text, whole numbers without a fraction: 1.0 and 1 are the same code; gaps stay gaps."""
    if values.dtype == object:
        # 1 and True are equal in there, and yet not the same text
        return _plain(values)
    # a column of codes holds millions of rows and a few dozen values
    places, distinct = pd.factorize(values)
    texts = _plain(pd.Series(distinct + 0.0 if values.dtype.kind == "f" else distinct))  # -0.0 and 0.0 are equal too
    return pd.Series(texts.array.take(places, allow_fill=True), index=values.index, name=values.name)


def _plain(values: pd.Series) -> pd.Series:
    return values.astype("string").str.removesuffix(".0")

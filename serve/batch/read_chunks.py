"""A table of any size, CSV or Parquet -> tables of a few thousand rows each, in the file's order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
from pyarrow import types

from stepkit.errors import BadParameter, TableUnfit, TableUnreadable
from stepkit.table.fileformats import MISSING, WRITABLE, iter_rows, iter_uneven_rows, parse_header, read_csv_header

BLOCK_BYTES = 2**20
"""How much of a CSV is parsed at once; a row must fit in it. Arrow holds up to 32 of them that it has read ahead."""

CONVERSION_ERROR = re.compile(r"In CSV column #(\d+): Row #(\d+): CSV conversion error to \w+: (.+)", re.DOTALL)
UNEVEN_ROW_ERROR = re.compile(r"Expected \d+ columns, got \d+")
MAX_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class ColumnSelection:
    """Which columns of a table are read: the model's numbers and texts, and those that the output keeps."""

    numbers: tuple[str, ...]
    texts: tuple[str, ...]
    kept: tuple[str, ...]

    @property
    def all(self) -> list[str]:
        return list(dict.fromkeys((*self.numbers, *self.texts, *self.kept)))


def get_format(path: Path) -> str:
    """Return ".csv" or ".parquet".

    Raises:
        BadParameter: the name ends otherwise.
    """
    ending = path.suffix.lower()
    if ending not in WRITABLE:
        raise BadParameter(f"{path} must end with one of {', '.join(WRITABLE)}: the ending says the format.")
    return ending


def read_header(path: Path) -> list[str]:
    """Return the names of all columns.

    Raises:
        TableUnreadable: empty, not UTF-8, separated by something else than commas, not CSV or Parquet, a name twice.
    """
    if path.stat().st_size == 0:
        raise TableUnreadable(f"{path} is empty (0 bytes). It needs a header and rows.")
    if get_format(path) == ".parquet":
        with _open_parquet(path) as file:
            return parse_header(file.schema_arrow.names, str(path))
    return read_csv_header(path)


def _open_text(path: Path) -> TextIO:
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _iter_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV, header first, each with its first line as an editor counts it."""
    with _open_text(path) as text:
        yield from iter_rows(text)


def verify_columns(path: Path, header: list[str], wanted: ColumnSelection) -> None:
    """Raise TableUnfit unless every wanted column is there."""
    missing = [name for name in wanted.all if name not in header]
    if missing:
        columns = "column" if len(missing) == 1 else "columns"
        raise TableUnfit(
            f"{path} lacks the {columns} {', '.join(missing)} that the model needs (its header: "
            f"{', '.join(header)[:300]}). Add what is missing, or score it by a model that does without."
        )


def iter_chunks(path: Path, wanted: ColumnSelection, rows: int) -> Iterator[tuple[pa.Table, float]]:
    """Yield tables of `rows` rows (the last may have fewer), each with the share of the file that is read by then.

    Numbers are doubles with NaN or null for a gap, and every other column of a CSV is text, as it stands there.

    Raises:
        TableUnfit: a value is not of its column's type, or a row is too long or too short; the message has the row.
        TableUnreadable: the file breaks off, or cannot be read on.
    """
    return (_iter_parquet_chunks if get_format(path) == ".parquet" else _iter_csv_chunks)(path, wanted, rows)


def _iter_csv_chunks(path: Path, wanted: ColumnSelection, rows: int) -> Iterator[tuple[pa.Table, float]]:
    size = path.stat().st_size
    column_types = {name: pa.float64() if name in wanted.numbers else pa.string() for name in wanted.all}
    above, header = next(_iter_rows(path))
    waiting: list[pa.RecordBatch] = []
    with path.open("rb") as file:
        try:
            for batch in pcsv.open_csv(
                file,
                # on one thread a refusal names the row
                read_options=pcsv.ReadOptions(
                    block_size=BLOCK_BYTES,
                    use_threads=False,
                    column_names=parse_header(header),
                    skip_rows_after_names=above,  # the header, and the blank lines above it
                ),
                parse_options=pcsv.ParseOptions(newlines_in_values=True),
                convert_options=pcsv.ConvertOptions(
                    column_types=column_types,
                    include_columns=wanted.all,
                    null_values=MISSING,
                    strings_can_be_null=False,
                ),
            ):
                waiting.append(batch)
                table = pa.Table.from_batches(waiting)
                end = table.num_rows - table.num_rows % rows
                for start in range(0, end, rows):
                    yield table.slice(start, rows), file.tell() / size
                waiting = table.slice(end).to_batches()
        except pa.ArrowException as error:
            raise _to_table_error(path, error) from error
    if waiting and (left := pa.Table.from_batches(waiting)).num_rows:
        yield left, 1.0


def _to_table_error(path: Path, error: pa.ArrowException) -> TableUnfit | TableUnreadable:
    if found := CONVERSION_ERROR.search(str(error)):
        # Arrow numbers the columns as header_of lists them; of blank lines it counts those above the header
        name, value = read_header(path)[int(found[1])], found[3].strip()[:MAX_SHOWN_CHARACTERS]
        above = next(_iter_rows(path))[0] - 1
        line = next(islice(_iter_rows(path), int(found[2]) - above - 1, None))[0]
        return TableUnfit(f"{path}, line {line}, column {name}: {value}. Correct the line and run this again.")
    if UNEVEN_ROW_ERROR.search(str(error)):
        with _open_text(path) as text:
            for row in iter_uneven_rows(text):
                return TableUnfit(f"{path}, {row}. Correct the line.")
    return TableUnreadable(f"{path} cannot be read as CSV: {' '.join(str(error).split())[:300]}")


def _open_parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise TableUnreadable(f"{path} cannot be read as Parquet: {' '.join(str(error).split())[:300]}") from error


def _iter_parquet_chunks(path: Path, wanted: ColumnSelection, rows: int) -> Iterator[tuple[pa.Table, float]]:
    with _open_parquet(path) as file:
        _verify_types(path, file.schema_arrow, wanted)
        # doubles for the model's numbers; a column that is only kept stays as it is
        fields = [file.schema_arrow.field(name) for name in wanted.all]
        schema = pa.schema([one.with_type(pa.float64()) if one.name in wanted.numbers else one for one in fields])
        total, read = max(file.metadata.num_rows, 1), 0
        try:
            for batch in file.iter_batches(batch_size=rows, columns=wanted.all, use_threads=False):
                read += batch.num_rows
                yield pa.Table.from_batches([batch]).select(wanted.all).cast(schema, safe=False), read / total
        except (pa.ArrowException, OSError) as error:
            raise TableUnreadable(f"{path} cannot be read on after row {read:,}: {error}") from error


def _verify_types(path: Path, schema: pa.Schema, wanted: ColumnSelection) -> None:
    for names, kinds, needed in ((wanted.numbers, NUMBERS, "numbers"), (wanted.texts, TEXTS, "text")):
        for name in names:
            kind = schema.field(name).type
            if not any(is_kind(kind) for is_kind in kinds):
                raise TableUnfit(
                    f"{path}, row 1 and all others, column {name}: its type is {kind}, and the model needs {needed}. "
                    f"Write it as {needed}."
                )


def _is_category(kind: pa.DataType) -> bool:
    return types.is_dictionary(kind) and any(is_text(kind.value_type) for is_text in TEXTS)


NUMBERS = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_null)
TEXTS = (types.is_string, types.is_large_string, types.is_null, _is_category)

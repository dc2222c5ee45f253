"""Reading of a large CSV or Parquet table in chunks, in the order of the file."""

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
"""Bytes of a CSV that are parsed at once; limits the size of a row. Arrow reads up to 32 blocks ahead."""

CONVERSION_ERROR = re.compile(r"In CSV column #(\d+): Row #(\d+): CSV conversion error to \w+: (.+)", re.DOTALL)
UNEVEN_ROW_ERROR = re.compile(r"Expected \d+ columns, got \d+")
MAX_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class ColumnSelection:
    """Columns to read: the model's numbers and texts, and those to copy to the output."""

    numbers: tuple[str, ...]
    texts: tuple[str, ...]
    copied: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """All columns to read, without duplicates."""
        return list(dict.fromkeys((*self.numbers, *self.texts, *self.copied)))


def get_format(path: Path) -> str:
    """Return ".csv" or ".parquet".

    Raises:
        BadParameter: another suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in WRITABLE:
        raise BadParameter(f"{path}: unknown file format (found '{suffix}', expected {' or '.join(WRITABLE)}).")
    return suffix


def read_header(path: Path) -> list[str]:
    """Return the names of all columns.

    Raises:
        TableUnreadable: empty, not UTF-8, not separated by commas, not CSV or Parquet, or a duplicate name.
    """
    if path.stat().st_size == 0:
        raise TableUnreadable(f"{path}: empty (0 bytes). A table needs a header and rows.")
    if get_format(path) == ".parquet":
        with _open_parquet(path) as file:
            return parse_header(file.schema_arrow.names, str(path))
    return read_csv_header(path)


def _open_text(path: Path) -> TextIO:
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _iter_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV, header first, each with its line number in an editor."""
    with _open_text(path) as text:
        yield from iter_rows(text)


def verify_columns(path: Path, header: list[str], selection: ColumnSelection) -> None:
    """Raise TableUnfit unless the header has all selected columns."""
    missing = [name for name in selection.names if name not in header]
    if missing:
        noun = "column" if len(missing) == 1 else "columns"
        raise TableUnfit(
            f"{path}: no {noun} {', '.join(missing)}, which the model needs (found {', '.join(header)[:300]}). "
            "Add the missing columns, or choose another model: -P model=models:/NAME/VERSION"
        )


def iter_chunks(path: Path, selection: ColumnSelection, rows: int) -> Iterator[tuple[pa.Table, float]]:
    """Yield tables of `rows` rows (the last may have fewer), each with the share of the file read so far (0 to 1).

    The model's numbers are doubles, with NaN or null for a gap. All other columns of a CSV are unchanged text.

    Raises:
        TableUnfit: a value does not fit its column, or a row has too many or too few fields; the message has the line.
        TableUnreadable: the file is cut off or damaged.
    """
    return (_iter_parquet_chunks if get_format(path) == ".parquet" else _iter_csv_chunks)(path, selection, rows)


def _iter_csv_chunks(path: Path, selection: ColumnSelection, rows: int) -> Iterator[tuple[pa.Table, float]]:
    size = path.stat().st_size
    column_types = {name: pa.float64() if name in selection.numbers else pa.string() for name in selection.names}
    above, header = next(_iter_rows(path))
    waiting: list[pa.RecordBatch] = []
    with path.open("rb") as file:
        try:
            for batch in pcsv.open_csv(
                file,
                # With one thread, an error names the row.
                read_options=pcsv.ReadOptions(
                    block_size=BLOCK_BYTES,
                    use_threads=False,
                    column_names=parse_header(header),
                    skip_rows_after_names=above,  # the header, and the blank lines above it
                ),
                parse_options=pcsv.ParseOptions(newlines_in_values=True),
                convert_options=pcsv.ConvertOptions(
                    column_types=column_types,
                    include_columns=selection.names,
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
    if match := CONVERSION_ERROR.search(str(error)):
        # Arrow numbers columns like read_header. Its row numbers include only the blank lines above the header.
        name, problem = read_header(path)[int(match[1])], match[3].strip()[:MAX_SHOWN_CHARACTERS]
        above = next(_iter_rows(path))[0] - 1
        line = next(islice(_iter_rows(path), int(match[2]) - above - 1, None))[0]
        return TableUnfit(
            f"{path}, line {line}, column {name}: {problem}. Correct the line and run the same command again."
        )
    if UNEVEN_ROW_ERROR.search(str(error)):
        with _open_text(path) as text:
            for row in iter_uneven_rows(text):
                return TableUnfit(f"{path}, {row}. Correct the line.")
    return TableUnreadable(f"{path}: cannot be read as CSV ({' '.join(str(error).split())[:300]}).")


def _open_parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise TableUnreadable(f"{path}: cannot be read as Parquet ({' '.join(str(error).split())[:300]}).") from error


def _iter_parquet_chunks(path: Path, selection: ColumnSelection, rows: int) -> Iterator[tuple[pa.Table, float]]:
    with _open_parquet(path) as file:
        _verify_types(path, file.schema_arrow, selection)
        # Only the model's numbers become doubles.
        fields = [file.schema_arrow.field(name) for name in selection.names]
        schema = pa.schema([f.with_type(pa.float64()) if f.name in selection.numbers else f for f in fields])
        total, read = max(file.metadata.num_rows, 1), 0
        try:
            for batch in file.iter_batches(batch_size=rows, columns=selection.names, use_threads=False):
                read += batch.num_rows
                yield pa.Table.from_batches([batch]).select(selection.names).cast(schema, safe=False), read / total
        except (pa.ArrowException, OSError) as error:
            raise TableUnreadable(f"{path}: cannot be read after row {read:,} ({error}).") from error


def _verify_types(path: Path, schema: pa.Schema, selection: ColumnSelection) -> None:
    for names, type_checks, expected in (
        (selection.numbers, NUMBER_TYPES, "numbers"),
        (selection.texts, TEXT_TYPES, "text"),
    ):
        for name in names:
            column_type = schema.field(name).type
            if not any(has_type(column_type) for has_type in type_checks):
                raise TableUnfit(
                    f"{path}, column {name}: wrong type in all rows (found {column_type}, expected {expected}). "
                    f"Convert the column to {expected}."
                )


def _is_category(column_type: pa.DataType) -> bool:
    return types.is_dictionary(column_type) and any(is_text(column_type.value_type) for is_text in TEXT_TYPES)


NUMBER_TYPES = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_null)
TEXT_TYPES = (types.is_string, types.is_large_string, types.is_null, _is_category)

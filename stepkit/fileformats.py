"""What a file of a table may be, and what is no table although it is called one; told without reading its rows."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from stepkit.errors import TableUnreadable

READABLE = (".csv", ".parquet", ".xls", ".xlsx")
WRITABLE = (".csv", ".parquet")
MISSING = ["", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL", "None"]
"""What counts as missing in a CSV column; in a text column only the empty text does, as "None" may be a category."""

# pandas and Arrow read a longer field than Python's limit of 131,072 characters, and so must the count of the fields
csv.field_size_limit(2**31 - 1)


class UnevenRow(NamedTuple):
    """A CSV row with another number of fields than the header; `line` is the row's first line, from 1."""

    line: int
    fields: int
    expected: int

    def __str__(self) -> str:
        return f"line {self.line}: {self.fields} fields where the header has {self.expected}"


def uneven_rows(lines: Iterable[str]) -> Iterator[UnevenRow]:
    """Yield each row of a CSV that pandas would shift, cut or fill up without a word.

    Args:
        lines: the lines with their ends: a file opened with newline="", or io.StringIO(text, newline="").
    """
    reader = csv.reader(lines)
    expected = end = 0
    for row in reader:
        line, end = end + 1, reader.line_num
        if not row or (len(row) == 1 and row[0].isspace()):  # pandas skips blank lines
            continue
        expected = expected or len(row)
        if len(row) != expected:
            yield UnevenRow(line, len(row), expected)


def ending_of(path: Path) -> str:
    ending = path.suffix.lower()
    if ending in READABLE:
        return ending
    raise TableUnreadable(f"{path.name} has none of the endings that can be read: {', '.join(READABLE)}.")


def refuse_markup(path: Path) -> None:
    """A server that answers "200 OK" with a page about an error is the commonest fault of a download."""
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise TableUnreadable(f"{path.name} is a web page, not a table. Open its address in a browser to see why.")


def refuse_other_delimiter(path: Path, header: str) -> None:
    for delimiter, name in ((";", "semicolon"), ("\t", "tab"), ("|", "bar")):
        if delimiter in header:
            raise TableUnreadable(
                f"{path.name} is separated by the {name} '{delimiter.strip() or 'tab'}', not by commas. "
                "Save it with commas and try again."
            )

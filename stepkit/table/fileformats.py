"""File formats of tables: detect files that are not tables, and check the header and rows of a CSV."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from stepkit.errors import TableUnreadable

READABLE = (".csv", ".parquet", ".xls", ".xlsx")
WRITABLE = (".csv", ".parquet")
MISSING = ["", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL", "None"]
"""Missing values in a CSV column; in a text column only the empty text, since "None" may be a category."""

HEADER_LINES = 10
"""Number of lines or rows that are searched for the header, because titles and notes often precede it."""

DELIMITERS = {";": "semicolons (;)", "\t": "tabs", "|": "bars (|)"}
NOT_CSV = {
    rb"\s*<(?i:!doctype|!--|html|head|body|table|\?xml)": "a web page, not a table. Open its URL in a browser.",
    rb"version https://git-lfs": "a Git LFS pointer, not the table itself. Run `git lfs pull` in its repository.",
    rb"\xff\xfe|\xfe\xff": "not UTF-8 text, but UTF-16. Save it as UTF-8 and try again.",
    rb'\s*(\[\s*)?\{\s*["}]|\s*\[\s*\[': "JSON",
    rb"%PDF-|\{\\rtf": "a document (PDF or RTF)",
    rb"SQLite format 3\0": "an SQLite database",
    rb"(?=.*\0)(PK\x03\x04|\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|\x28\xb5\x2f\xfd|Rar!|.{257}ustar)": "an archive",
    rb"(?=.*\0)(PAR[1E]|ARROW1|FEA1|ORC|Obj\x01|\x89HDF|\xd0\xcf\x11\xe0)": "a table or document of another format",
    rb".*\0": "not text: it contains zero bytes",
}
"""Start of files that are not CSV, and their kind. Without a remedy here, the message lists the readable formats."""


class UnevenRow(NamedTuple):
    """CSV row whose number of fields differs from the header; `line` is its first line, counted from 1."""

    line: int
    fields: int
    expected: int

    def __str__(self) -> str:
        return f"line {self.line}: {self.fields} field{'s'[: self.fields != 1]} where the header has {self.expected}"


class Row(NamedTuple):
    """CSV row and its first line, counted from 1."""

    line: int
    fields: list[str]


# Pandas and Arrow read fields above Python's limit of 131,072 characters, so counting the fields must not fail there.
csv.field_size_limit(2**31 - 1)


def iter_uneven_rows(lines: Iterable[str]) -> Iterator[UnevenRow]:
    """Yield each row that pandas would silently shift, cut or fill up; see `iter_rows` for `lines`."""
    expected = 0
    for row in iter_rows(lines):
        expected = expected or len(row.fields)
        if len(row.fields) != expected:
            yield UnevenRow(row.line, len(row.fields), expected)


def iter_rows(lines: Iterable[str], delimiter: str = ",") -> Iterator[Row]:
    """Yield the rows that are not blank, like pandas; `lines` keep their ends (a file opened with newline="")."""
    reader = csv.reader(lines, delimiter=delimiter)
    end = 0
    for fields in reader:
        line, end = end + 1, reader.line_num
        if fields and not (len(fields) == 1 and fields[0].isspace()):
            yield Row(line, fields)


def get_suffix(path: Path) -> str:
    """Return the suffix of a table's file in lower case; raise TableUnreadable if it is not in `READABLE`."""
    suffix = path.suffix.lower()
    if suffix in READABLE:
        return suffix
    raise TableUnreadable(f"{path.name}: the file name must end with one of {', '.join(READABLE)}.")


def parse_header(cells: Iterable[object], file: str = "the table") -> list[str]:
    """Return the column names in a header, `Unnamed: N` for an empty cell; raise TableUnreadable for duplicates."""
    names = [_to_name(cell) or f"Unnamed: {place}" for place, cell in enumerate(cells)]
    name = next((name for name, times in Counter(names).items() if times > 1), None)
    if name is not None:
        raise TableUnreadable(f"{file}: the header has the column '{name}' more than once. Rename the duplicates.")
    return names


def _to_name(cell: object) -> str:
    if isinstance(cell, float):  # in a spreadsheet an empty cell is NaN and a year is a number
        return "" if cell != cell else str(cell).removesuffix(".0")
    return "" if cell is None else str(cell)


def read_csv_header(path: Path, expected_names: Collection[str] = ()) -> list[str]:
    """Return the column names of a CSV; expected names, if given, identify the header line.

    Raises:
        TableUnreadable: the file is not CSV or not UTF-8, has another delimiter, or its header is not in the first line
            or contains a name twice.
    """
    with path.open("rb") as file:
        start = file.read(4096)
    for pattern, kind in NOT_CSV.items():
        if re.match(pattern, start, re.DOTALL):
            remedy = "" if kind.endswith(".") else f". Save the table in one of the formats {', '.join(READABLE)}."
            raise TableUnreadable(f"{path.name} is {kind}{remedy}")
    rows = _read_first_rows(path, ",")
    if not rows:
        raise TableUnreadable(f"{path.name} cannot be read as CSV: it contains only blank lines.")
    _verify_commas(path, rows)
    _verify_header_first(path, rows, set(expected_names))
    if re.search("[\ud800-\udfff]", "".join(rows[0].fields)):
        raise TableUnreadable(
            f"{path.name} is not UTF-8 text: its header contains invalid bytes. Save it as UTF-8 and try again."
        )
    return parse_header(rows[0].fields, path.name)


def _read_first_rows(path: Path, delimiter: str) -> list[Row]:
    """Return the first rows that are not blank."""
    # Bytes that are not UTF-8 are reported with their position when the rows are read.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        return list(islice(iter_rows(lines, delimiter), HEADER_LINES))


def _verify_commas(path: Path, rows: Sequence[Row]) -> None:
    for delimiter, name in DELIMITERS.items():
        split_rows = _read_first_rows(path, delimiter)
        # Notes above the header contain no delimiter.
        first = next((place for place, row in enumerate(split_rows) if len(row.fields) > 1), len(split_rows))
        widths = {len(row.fields) for row in split_rows[first : first + 2]}
        commas = [len(row.fields) for row in rows[: first + 1]]
        if len(widths) == 1 and set(commas[:-1]) <= {1} and commas[-1] < max(widths):
            decimals = any(re.fullmatch(r"-?\d+,\d+", field) for row in split_rows[first + 1 :] for field in row.fields)
            decimal = ", with decimal commas" if decimals else ""
            raise TableUnreadable(
                f"{path.name} is separated by {name}{decimal}, not by commas. Save it with commas"
                f"{' and decimal points' if decimals else ''} and try again."
            )


def _verify_header_first(path: Path, rows: Sequence[Row], expected_names: set[str]) -> None:
    first, width = rows[0], len(rows[0].fields)
    if expected_names and expected_names <= set(first.fields):
        return
    for row in rows[1:]:
        are_names = len({*row.fields}) == len(row.fields) and all(re.search(r"[^\W\d]", field) for field in row.fields)
        if (expected_names and expected_names <= {*row.fields}) or (len(row.fields) > width and are_names):
            raise TableUnreadable(
                f"{path.name}: line {row.line} seems to be the header ({len(row.fields)} fields: "
                f"{', '.join(row.fields)[:200]}), not line {first.line} ({width} field{'s'[: width != 1]}). Delete "
                f"everything above line {row.line} and try again."
            )


def verify_even_rows(path: Path) -> None:
    """Raise TableUnreadable if a row of a CSV has more or fewer fields than the header."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        uneven = list(islice(iter_uneven_rows(lines), 4))
    if uneven:
        more = " (and more such lines)" if uneven[3:] else ""
        raise TableUnreadable(
            f"{path.name}, {'; '.join(map(str, uneven[:3]))}{more}. Complete the line, or put a field that contains a "
            "comma into double quotes."
        )

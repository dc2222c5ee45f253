"""What a file of a table may be, and what is no table although it is called one; told without reading its rows."""

from __future__ import annotations

from pathlib import Path

from stepkit.errors import TableUnreadable

READABLE = (".csv", ".parquet", ".xls", ".xlsx")
WRITABLE = (".csv", ".parquet")
MISSING = ["", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL", "None"]
"""What counts as missing in a CSV column; in a text column only the empty text does, as "None" may be a category."""


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

"""What a report is made of, before it is a page or Markdown: sections of texts, tables, code and figures."""

from __future__ import annotations

from dataclasses import dataclass, field

GOOD, BAD, WARN, QUIET, CODE, STRONG = "good", "bad", "warn", "quiet", "code", "strong"
"""Kinds of a cell: how it came out, or how it is set."""


@dataclass(frozen=True)
class Cell:
    """One cell of a table; `kind` is one of the words above, or nothing."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Text:
    """A paragraph; `kind` is "" or one of GOOD, BAD, WARN, QUIET."""

    text: str
    kind: str = ""
    block: str = "text"


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows.

    Attributes:
        numbers: whether what follows the first column is set as numbers, to the right.
        folded: whether it is shown only when asked for.
    """

    caption: str
    headings: list[str]
    rows: list[list[Cell]]
    numbers: bool = False
    folded: bool = False
    block: str = "table"


@dataclass(frozen=True)
class Code:
    """Lines to be read or typed as they stand."""

    caption: str
    text: str
    kind: str = ""
    block: str = "code"


@dataclass(frozen=True)
class Figure:
    """A picture by its bytes (base64 of a PNG), with what it shows in words."""

    caption: str
    alt: str
    png: str


@dataclass(frozen=True)
class Figures:
    """Pictures side by side. Markdown has none of them."""

    figures: list[Figure]
    block: str = "figures"


Block = Text | Table | Code | Figures


@dataclass(frozen=True)
class Section:
    """One chapter; `id` is its address within the page."""

    id: str
    title: str
    blocks: list[Block] = field(default_factory=list)


def cells(*texts: str | Cell) -> list[Cell]:
    return [text if isinstance(text, Cell) else Cell(text) for text in texts]


def facts(caption: str, pairs: list[tuple[str, str | Cell]]) -> Table:
    """A table of names and what they are; pairs without a text are left out."""
    told = [(name, cell) for name, cell in pairs if (cell.text if isinstance(cell, Cell) else cell)]
    return Table(caption, ["what", "value"], [cells(name, cell) for name, cell in told])

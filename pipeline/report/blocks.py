"""Content of a report, independent of HTML and Markdown: sections of texts, tables, code and figures.

The types define the size limits that `ci/summary.py` checks when it reads the report of another job.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, TypeVar

from pydantic import Field

MOST_TEXT, MOST_ITEMS = 4_000, 100
"""Longest text (characters) and longest list in a report that is read."""

MOST_OPEN_ROWS = 12
"""Number of rows above which a table of unknown length is folded."""

GOOD, BAD, WARN, QUIET, CODE = "good", "bad", "warn", "quiet", "code"
"""Kinds of a cell or a paragraph: its outcome or its style."""

Item = TypeVar("Item")
Items = Annotated[list[Item], Field(max_length=MOST_ITEMS)]
Words = Annotated[str, Field(max_length=MOST_TEXT)]
Kind = Annotated[str, Field(pattern=r"^(good|bad|warn|quiet|code|)$")]


@dataclass(frozen=True)
class Cell:
    """Cell of a table.

    Attributes:
        note: small print next to the text, for example the interval of a metric.
    """

    text: Words
    kind: Kind = ""
    note: Words = ""


@dataclass(frozen=True)
class Text:
    """Paragraph."""

    text: Words
    kind: Kind = ""
    block: Literal["text"] = "text"


@dataclass(frozen=True)
class Table:
    """Table whose first column names its rows.

    Attributes:
        numbers: True if all columns after the first hold numbers, which are aligned to the right.
        folded: True if the reader has to unfold the table.
        left_out: number of further rows, which only report.html contains.
    """

    caption: Words
    headings: Items[Words]
    rows: Items[Items[Cell]]
    numbers: bool = False
    folded: bool = False
    left_out: Annotated[int, Field(ge=0)] = 0
    block: Literal["table"] = "table"

    def limit_rows(self, most: int) -> Table:
        """Return the table with at most `most` rows."""
        return replace(self, rows=self.rows[:most], left_out=self.left_out + max(0, len(self.rows) - most))


@dataclass(frozen=True)
class Code:
    """Preformatted lines: a message or a command."""

    caption: Words
    text: Words
    block: Literal["code"] = "code"


@dataclass(frozen=True)
class Figure:
    """PNG in base64 with an alternative text. Only the HTML report shows it."""

    caption: Words
    alt: Words
    png: Words
    block: Literal["figure"] = "figure"


Block = Annotated[Text | Table | Code | Figure, Field(discriminator="block")]


@dataclass(frozen=True)
class Section:
    """Section of a report. `id` is its anchor on the page."""

    id: Words
    title: Words
    blocks: Items[Block] = field(default_factory=list)


def make_cells(*texts: str | Cell) -> list[Cell]:
    """Return a row of cells, from texts and cells."""
    return [text if isinstance(text, Cell) else Cell(text) for text in texts]


def make_fact_table(caption: str, pairs: list[tuple[str, str | Cell]]) -> Table:
    """Return a table of names and values, without empty values."""
    rows = [make_cells(name, value) for name, value in pairs]
    return Table(caption, ["property", "value"], [row for row in rows if row[1].text])


def list_figures(pictures: dict[str, str], *figures: tuple[str, str, str]) -> list[Figure]:
    """Return a figure for each (file name, caption, alternative text) whose picture exists."""
    return [Figure(caption, alt, pictures[name]) for name, caption, alt in figures if pictures.get(name)]

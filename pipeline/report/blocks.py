"""Parts of a report before it is a page or Markdown: sections of texts, tables, code and figures.

The types carry the bounds that a report of another job is checked against when it is read (`ci/summary.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, TypeVar

from pydantic import Field

MOST_TEXT, MOST_ITEMS = 4_000, 100
"""Characters of a text and items of a list, in a report that is read."""

GOOD, BAD, WARN, QUIET, CODE = "good", "bad", "warn", "quiet", "code"
"""Kinds of a cell or a paragraph: its outcome, or how it is set."""

Item = TypeVar("Item")
Items = Annotated[list[Item], Field(max_length=MOST_ITEMS)]
Words = Annotated[str, Field(max_length=MOST_TEXT)]
Kind = Annotated[str, Field(pattern=r"^(good|bad|warn|quiet|code|)$")]


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: Words
    kind: Kind = ""


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: Words
    kind: Kind = ""
    block: Literal["text"] = "text"


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows.

    Attributes:
        numbers: whether the columns after the first are numbers, set to the right.
        folded: whether it is shown only on request.
        left_out: how many further rows are only in report.html.
    """

    caption: Words
    headings: Items[Words]
    rows: Items[Items[Cell]]
    numbers: bool = False
    folded: bool = False
    left_out: Annotated[int, Field(ge=0)] = 0
    block: Literal["table"] = "table"

    def first(self, most: int) -> Table:
        """Return the table with at most so many rows."""
        return replace(self, rows=self.rows[:most], left_out=self.left_out + max(0, len(self.rows) - most))


@dataclass(frozen=True)
class Code:
    """Lines to be read or typed as they are."""

    caption: Words
    text: Words
    block: Literal["code"] = "code"


@dataclass(frozen=True)
class Figure:
    """A picture by its bytes (base64 of a PNG), with what it shows in words. Markdown has none of them."""

    caption: Words
    alt: Words
    png: Words
    block: Literal["figure"] = "figure"


Block = Annotated[Text | Table | Code | Figure, Field(discriminator="block")]


@dataclass(frozen=True)
class Section:
    """One chapter; `id` is its address within the page."""

    id: Words
    title: Words
    blocks: Items[Block] = field(default_factory=list)


def make_cells(*texts: str | Cell) -> list[Cell]:
    return [text if isinstance(text, Cell) else Cell(text) for text in texts]


def make_fact_table(caption: str, pairs: list[tuple[str, str | Cell]]) -> Table:
    """Return a table of names and values, without the empty ones."""
    rows = [make_cells(name, value) for name, value in pairs]
    return Table(caption, ["what", "value"], [row for row in rows if row[1].text])

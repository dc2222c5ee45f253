"""A report as one page of HTML, and as GitHub's Markdown."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from pipeline.report import escape
from pipeline.report.blocks import CODE, Cell, Table
from pipeline.report.format import cut
from pipeline.report.page import Page

FOLDER = Path(__file__).parent / "templates"
MOST_CHARACTERS = 60_000
"""GitHub takes 65,536 for a comment; the rest is for the job that posts it."""

CELL_CHARACTERS = 300
CODE_CHARACTERS = 4_000
ROWS = (60, 20, 8, 3)
"""Rows of each table in the Markdown: the first number with which it is short enough."""


def as_html(page: Page) -> str:
    """Return one page without any reference to something outside of it."""
    return _html().render(page=page)


def as_markdown(page: Page) -> str:
    """Return at most `MOST_CHARACTERS` of GitHub's Markdown, without pictures; tables that are cut say so."""
    texts = (_markdown().render(page=page, most=most) for most in ROWS)
    fits = next((text for text in texts if len(text) <= MOST_CHARACTERS), "")
    return fits or _markdown().render(page=page.shortened(), most=ROWS[-1])[:MOST_CHARACTERS]


@cache
def _html() -> Template:
    return _environment(True, _visible).get_template("page.html.j2")


@cache
def _markdown() -> Template:
    return _environment(False, escape.markdown).get_template("report.md.j2")


def _environment(html: bool, finalize: Callable[[object], object]) -> Environment:
    """Return the settings of a template; `finalize` escapes everything that the template puts out."""
    settings = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=html,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    settings.filters.update(table=markdown_table, fenced=_fenced)
    return settings


def _visible(value: object) -> object:
    return escape.visible(value) if type(value) is str else value


def _fenced(text: str) -> Markup:
    return escape.fenced(cut(text, CODE_CHARACTERS))


def markdown_table(table: Table, most: int) -> Markup:
    """Return the first `most` rows of a table in GitHub's Markdown."""
    shown = table.first(most)
    line = ["---:" if table.numbers and place else "---" for place in range(len(table.headings))]
    rows = [list(map(escape.markdown, table.headings)), line, *(list(map(_cell, row)) for row in shown.rows)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if shown.left_out:
        lines.append(f"\nand {shown.left_out:,} more, in report.html")
    return Markup("\n".join(lines))


def _cell(cell: Cell) -> str:
    text = escape.markdown(cut(cell.text, CELL_CHARACTERS))
    return f"<code>{text}</code>" if text and cell.kind == CODE else text

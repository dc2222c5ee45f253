"""A report as one page of HTML, and as GitHub's Markdown."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from pipeline.report import escape
from pipeline.report.blocks import CODE, Cell, Table
from pipeline.report.format import shorten
from pipeline.report.page import Page

FOLDER = Path(__file__).parent / "templates"
MOST_CHARACTERS = 60_000
"""GitHub takes 65,536 for a comment; the rest is for the job that posts it."""

CELL_CHARACTERS = 300
CODE_CHARACTERS = 4_000
ROWS = (60, 20, 8, 3)
"""Rows of each table in the Markdown: the first number with which it is short enough."""


def render_html(page: Page) -> str:
    """Return one page without any reference to something outside of it."""
    return _load_html_template().render(page=page)


def render_markdown(page: Page) -> str:
    """Return at most `MOST_CHARACTERS` of GitHub's Markdown, without pictures; tables that are cut say so."""
    texts = (_load_markdown_template().render(page=page, most=most) for most in ROWS)
    fits = next((text for text in texts if len(text) <= MOST_CHARACTERS), "")
    return fits or _load_markdown_template().render(page=page.shorten(), most=ROWS[-1])[:MOST_CHARACTERS]


@cache
def _load_html_template() -> Template:
    return _make_environment(True, _make_visible).get_template("page.html.j2")


@cache
def _load_markdown_template() -> Template:
    return _make_environment(False, escape.escape_markdown).get_template("report.md.j2")


def _make_environment(html: bool, finalize: Callable[[object], object]) -> Environment:
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
    settings.filters.update(table=render_markdown_table, fenced=_fence_text)
    return settings


def _make_visible(value: object) -> object:
    return escape.make_visible(value) if type(value) is str else value


def _fence_text(text: str) -> Markup:
    return escape.fence_text(shorten(text, CODE_CHARACTERS))


def render_markdown_table(table: Table, most: int) -> Markup:
    """Return the first `most` rows of a table in GitHub's Markdown."""
    shown = table.first(most)
    line = ["---:" if table.numbers and place else "---" for place in range(len(table.headings))]
    rows = [
        list(map(escape.escape_markdown, table.headings)),
        line,
        *(list(map(_render_cell, row)) for row in shown.rows),
    ]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if shown.left_out:
        lines.append(f"\nand {shown.left_out:,} more, in report.html")
    return Markup("\n".join(lines))


def _render_cell(cell: Cell) -> str:
    text = escape.escape_markdown(shorten(cell.text, CELL_CHARACTERS))
    return f"<code>{text}</code>" if text and cell.kind == CODE else text

"""Renderer of a report: one HTML page, or GitHub's Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from pipeline.report import escape
from pipeline.report.blocks import CODE, Cell, Table
from pipeline.report.format import shorten
from pipeline.report.page import Page
from stepkit.words import pluralize

FOLDER = Path(__file__).parent / "templates"
MOST_CHARACTERS = 60_000
"""Longest Markdown. GitHub allows 65,536 characters in a comment; the job that posts it adds its own lines."""

CELL_CHARACTERS = 300
CODE_CHARACTERS = 4_000
_HYPHENATED = re.compile(r"^(?=.*\d)(?=.*-).{1,24}$")
"""Words that a browser would break at a hyphen, although they are one number."""

ROWS = (60, 20, 8, 3)
"""Rows of each table in the Markdown. The largest limit that fits is used."""


def render_html(page: Page) -> str:
    """Return a self-contained page."""
    return _load_html_template().render(page=page)


def render_markdown(page: Page) -> str:
    """Return at most `MOST_CHARACTERS` of GitHub's Markdown, without figures. Shortened tables state it."""
    texts = (_load_markdown_template().render(page=page, most=most) for most in ROWS)
    text = next((text for text in texts if len(text) <= MOST_CHARACTERS), "")
    return text or _load_markdown_template().render(page=page.shorten(), most=ROWS[-1])[:MOST_CHARACTERS]


@cache
def _load_html_template() -> Template:
    return _make_environment(True, _make_visible).get_template("page.html.j2")


@cache
def _load_markdown_template() -> Template:
    return _make_environment(False, escape.escape_markdown).get_template("report.md.j2")


def _make_environment(autoescape: bool, finalize: Callable[[object], object]) -> Environment:
    """Return the template environment. `finalize` escapes each value that a template prints."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=autoescape,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(table=render_markdown_table, whole=_keep_numbers_whole, fenced=_fence_text)
    return environment


def _make_visible(value: object) -> object:
    return escape.make_visible(value) if type(value) is str else value


def _keep_numbers_whole(text: str) -> Markup:
    """Return HTML in which no line breaks at the hyphen of a number (1.6e-07), a date or a short id."""
    words = map(html.escape, re.split(r"(\s+)", escape.make_visible(text)))
    return Markup("".join(_HYPHENATED.sub(r'<span class="whole">\g<0></span>', word) for word in words))


def _fence_text(text: str) -> Markup:
    return escape.fence_text(shorten(text, CODE_CHARACTERS))


def render_markdown_table(table: Table, most: int) -> Markup:
    """Return the first `most` rows of a table in GitHub's Markdown."""
    shown = table.limit_rows(most)
    rule = ["---:" if table.numbers and index else "---" for index in range(len(table.headings))]
    rows = [[escape.escape_markdown(heading) for heading in table.headings], rule]
    rows += [[_render_cell(cell) for cell in row] for row in shown.rows]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if shown.left_out:
        lines.append(f"\n{pluralize(shown.left_out, 'more row')} in report.html")
    return Markup("\n".join(lines))


def _render_cell(cell: Cell) -> str:
    text = escape.escape_markdown(shorten(cell.text, CELL_CHARACTERS))
    if cell.note:
        return f"{text} ({escape.escape_markdown(shorten(cell.note, CELL_CHARACTERS))})"
    return f"<code>{text}</code>" if text and cell.kind == CODE else text

"""A report as one page of HTML, and as Markdown for a comment on GitHub."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.report import escape
from pipeline.report.blocks import CODE, Cell, Table
from pipeline.report.format import cut, seconds
from pipeline.report.page import Page

FOLDER = Path(__file__).parent / "templates"
MOST_CHARACTERS = 60_000
"""GitHub takes 65,536 for a comment; the rest is for whoever posts it."""

CELL_CHARACTERS = 300
CODE_CHARACTERS = 4_000
TEMPLATES = {True: "page.html.j2", False: "report.md.j2"}
ROWS = (60, 20, 8, 3)
"""How many rows of a table stand in the Markdown, if with more it would be too long."""


def prepared() -> None:
    """Compile the templates, so that the first page does not wait for it."""
    for html, name in TEMPLATES.items():
        _environment(html=html).get_template(name)


def as_html(page: Page) -> str:
    """One page without any reference to something outside of it."""
    return _environment(html=True).get_template(TEMPLATES[True]).render(page=page)


def as_markdown(page: Page) -> str:
    """At most `MOST_CHARACTERS` of GitHub's Markdown, without pictures; long tables are cut, and say so."""
    template = _environment(html=False).get_template(TEMPLATES[False])
    texts = (template.render(page=page, most=most) for most in ROWS)
    return next((text for text in texts if len(text) <= MOST_CHARACTERS), "") or _cut(page)


def _cut(page: Page) -> str:
    """What must be told, where even short tables do not fit."""
    template = _environment(html=False).get_template(TEMPLATES[False])
    return template.render(page=page.shortened(), most=ROWS[-1])[:MOST_CHARACTERS]


@cache
def _environment(html: bool) -> Environment:
    settings = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=html,
        # everything that a template puts out, unless it is said to be Markdown already
        finalize=_shown if html else escape.markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    settings.filters.update(table=markdown_table, fenced=_fenced, seconds=seconds)
    return settings


def _shown(value: object) -> object:
    return escape.visible(value) if type(value) is str else value


def _fenced(text: str) -> escape.Safe:
    return escape.fenced(cut(text, CODE_CHARACTERS))


def markdown_table(table: Table, most: int) -> escape.Safe:
    """The first `most` rows of a table in GitHub's Markdown."""
    line = ["---:" if table.numbers and place else "---" for place in range(len(table.headings))]
    head = [_row([escape.markdown(heading) for heading in table.headings]), _row(line)]
    rows = [_row([_cell(cell) for cell in row]) for row in table.rows[:most]]
    left = len(table.rows) - most
    more = [f"\nand {left:,} more, in report.html" if left > 0 else ""]
    return escape.Safe("\n".join([*head, *rows, *more]).rstrip())


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    text = escape.markdown(cut(cell.text, CELL_CHARACTERS))
    if not text:
        return ""
    return f"<code>{text}</code>" if cell.kind == CODE else text

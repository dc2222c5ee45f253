"""summary.json: the report of a pipeline's run, as it goes from the job that ran it to the one that posts the comment.

The second job may write to the repository, and the first may have run anyone's code: what the second reads is a report
whose texts and lists are within the bounds of `pipeline/report/blocks.py`, and the renderer escapes every text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from pipeline.report.blocks import MOST_ITEMS, MOST_TEXT
from pipeline.report.page import Page
from stepkit.table.columns import format_first_problem

MOST_BYTES = 2_000_000
"""A file that is larger is not read; a usual one has about 20,000."""

EXAMPLE_ROWS = "  example rows"
"""The heading under which check_data shows rows."""

Kind = TypeVar("Kind")


class ReportFailed(Exception):
    """A report could not be made or posted."""


@dataclass(frozen=True)
class Summary:
    """All that the comment shows."""

    page: Page
    form: Literal[2] = 2


def make_summary(page: Page) -> Summary:
    """Return what a comment shows of a report: the shortened page, without rows of the data, which anyone may read."""
    failures = [replace(one, text=remove_rows(one.text)) for one in page.failures]
    return Summary(replace(page, failures=failures).shorten())


def remove_rows(error: str) -> str:
    """Return a message without the rows that a data check shows as examples."""
    return error.partition(EXAMPLE_ROWS)[0].rstrip()


def to_json(value: Any) -> str:
    """Return a dataclass as JSON within the bounds in which it is read."""
    return json.dumps(_limit_sizes(TypeAdapter(type(value)).dump_python(value)), indent=1) + "\n"


def _limit_sizes(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _limit_sizes(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_limit_sizes(one) for one in value[:MOST_ITEMS]]
    return value[:MOST_TEXT] if isinstance(value, str) else value


def read_form(form: type[Kind], file: Path, most: int = 10_000_000) -> Kind:
    """Return the content of a JSON file.

    Raises:
        ReportFailed: no such file, too large, or of another form.
    """
    try:
        if file.stat().st_size > most:
            raise ReportFailed(f"{file.name} has {file.stat().st_size:,} bytes, more than {most:,}: it is not read.")
        return TypeAdapter(form).validate_json(file.read_bytes())
    except OSError as error:
        raise ReportFailed(f"{file.name} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        raise ReportFailed(f"{file.name} is not what it should be: {format_first_problem(error)}.") from error

"""summary.json: the report of a pipeline run, passed from the job that ran it to the job that posts the comment.

The second job can write to the repository, but the first may have run the code of any pull request. So the second job
enforces the size limits of `pipeline/report/blocks.py`, and the renderer escapes each text.
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
"""Largest file that is read. A typical file has about 20,000 bytes."""

EXAMPLE_ROWS = "  example rows"
"""Heading of the rows in an error of check_data."""

Kind = TypeVar("Kind")


class ReportFailed(Exception):
    """Report that could not be written, read or posted."""


@dataclass(frozen=True)
class Summary:
    """Content of the comment."""

    page: Page
    form: Literal[2] = 2


def make_summary(page: Page) -> Summary:
    """Return the shortened page of a report, without rows of the data, because comments can be public."""
    failures = [replace(failure, text=remove_rows(failure.text)) for failure in page.failures]
    return Summary(replace(page, failures=failures).shorten())


def remove_rows(error: str) -> str:
    """Return a message without the rows that a data check shows as examples."""
    return error.partition(EXAMPLE_ROWS)[0].rstrip()


def to_json(value: Any) -> str:
    """Return a dataclass as JSON, cut to the size limits of the reader."""
    return json.dumps(_limit_sizes(TypeAdapter(type(value)).dump_python(value)), indent=1) + "\n"


def _limit_sizes(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _limit_sizes(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_limit_sizes(item) for item in value[:MOST_ITEMS]]
    return value[:MOST_TEXT] if isinstance(value, str) else value


def read_form(form: type[Kind], file: Path, most: int = 10_000_000) -> Kind:
    """Return the content of a JSON file.

    Raises:
        ReportFailed: the file is missing, too large, or has another format.
    """
    try:
        if file.stat().st_size > most:
            raise ReportFailed(f"{file.name}: too large (found {file.stat().st_size:,} bytes, at most {most:,}).")
        return TypeAdapter(form).validate_json(file.read_bytes())
    except OSError as error:
        raise ReportFailed(f"{file.name}: cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        raise ReportFailed(f"{file.name}: wrong format: {format_first_problem(error)}.") from error

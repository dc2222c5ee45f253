"""The data section of a report: it says what is not stated, and lists what to fill in."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.report.gather import PipelineResult
from pipeline.report.sections.data import get_description, list_data_facts, list_unstated
from tests.support.reports import make_found

STATED = {"description": "loans", "licence": "CC0", "limits": "made up", "columns": {"age": {"meaning": "in years"}}}


def about(**changes: Any) -> PipelineResult:
    return make_found(config={"data": {**STATED, **changes}})


def test_a_described_data_set_has_nothing_to_fill_in() -> None:
    assert list_unstated(about()) == ""
    assert get_description(about()) == "loans"


@pytest.mark.parametrize("text", ["", "what the table is, where it comes from, its licence (loans.csv)"])
def test_a_description_that_was_left_to_be_written_is_not_stated(text: str) -> None:
    facts = list_data_facts(about(description=text))
    assert ("what it is", "not stated") in facts
    assert ("to fill in", "description") in facts


def test_everything_that_a_draft_leaves_open_is_listed() -> None:
    left_open = about(description="", licence="", limits="", columns={"age": {"meaning": ""}, "income": {}})
    assert list_unstated(left_open) == "description, licence, limits, the meaning of 2 columns"

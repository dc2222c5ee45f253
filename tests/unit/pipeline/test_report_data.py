"""Data section of a report: it marks missing descriptions and lists them."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.report.gather import PipelineResult
from pipeline.report.sections.data import get_description, list_data_facts, list_unstated
from tests.support.reports import make_result

STATED = {"description": "loans", "licence": "CC0", "limits": "made up", "columns": {"age": {"meaning": "in years"}}}


def describe(**changes: Any) -> PipelineResult:
    return make_result(config={"data": {**STATED, **changes}})


def test_a_described_data_set_has_no_missing_parts() -> None:
    assert list_unstated(describe()) == ""
    assert get_description(describe()) == "loans"


@pytest.mark.parametrize("text", ["", "what the table is, where it comes from, its licence (loans.csv)"])
def test_the_placeholder_of_a_draft_counts_as_not_stated(text: str) -> None:
    facts = list_data_facts(describe(description=text))
    assert ("description", "not stated") in facts
    assert ("missing in the description", "description") in facts


def test_all_missing_parts_of_a_draft_are_listed() -> None:
    draft = describe(description="", licence="", limits="", columns={"age": {"meaning": ""}, "income": {}})
    assert list_unstated(draft) == "description, licence, limits, the meaning of 2 columns"

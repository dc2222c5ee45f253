"""pipeline.cli: each error message ends with a page of the documentation that exists."""

from __future__ import annotations

import pytest

from pipeline.cli import FAULTS_PAGE, PAGES, SETTINGS_PAGE, choose_help_page
from stepkit import errors
from stepkit.paths import ROOT


def test_every_page_is_there_and_every_kind_with_a_page_is_an_error_of_a_step() -> None:
    assert all(issubclass(getattr(errors, kind), errors.StepError) for kind in PAGES)
    assert all((ROOT / page.partition("#")[0]).is_file() for page in (SETTINGS_PAGE, FAULTS_PAGE, *PAGES.values()))


@pytest.mark.parametrize(
    ("text", "page"),
    [
        ("DataCheckFailed: 3 rows break a rule", "docs/bring-a-table.md"),
        ("step 'preprocess' failed\nTableUnfit: raw_data.csv lacks 1 of 24 columns", "docs/bring-a-table.md"),
        ("DownloadFailed: nobody answers", FAULTS_PAGE),
        ("something about a TableUnfit without its colon", FAULTS_PAGE),
    ],
)
def test_the_page_goes_by_the_kind_of_the_message(text: str, page: str) -> None:
    assert choose_help_page(text) == page

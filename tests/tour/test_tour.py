"""The README and every page of docs/ followed on a fresh clone: each command, and the output that the page shows.

TOUR_FOLDER=/some/folder keeps the clone there for the next tour, so that one page can be tried alone. Follow the README
there first (`-k README`), because it trains the champion:

    TOUR_FOLDER=/tmp/tour .venv/bin/pytest tests/tour/test_tour.py -k serve.md
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REAL_DATA
from tests.tour import plan
from tests.tour.pages import Command, find_missing_lines, list_pages, read_commands, read_outputs
from tests.tour.tourist import Tourist, visit

COMMANDS = [command for page in list_pages() for command in read_commands(page) if not plan.explain_elsewhere(command)]


@pytest.fixture(scope="module")
def tourist(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tourist]:
    folder = Path(os.environ.get("TOUR_FOLDER") or tmp_path_factory.mktemp("tour"))
    with visit(folder) as reader:
        yield reader
    if "TOUR_FOLDER" not in os.environ:
        shutil.rmtree(folder)


@pytest.mark.parametrize("command", COMMANDS, ids=[command.label for command in COMMANDS])
def test_a_command_works_and_prints_the_output_that_its_page_shows(tourist: Tourist, command: Command) -> None:
    if "data=uci" in command.text and not REAL_DATA.is_file():
        pytest.skip(f"the real data set is not at {REAL_DATA}")
    status, printed = tourist.type_command(command)
    assert (status or 0) == plan.EXIT_STATUS.get(command.text, 0), printed[-3000:]
    assert "Traceback" not in printed
    for output in read_outputs(command.page):
        if output.command == command.text:
            assert find_missing_lines(output.body, printed) == [], printed[-4000:]


def test_a_table_gets_the_same_predictions_as_json_and_as_csv(tourist: Tourist) -> None:
    predictions = {
        media_type: re.findall(r'"probability": ([\d.]+)', printed)
        for (_, command), printed in tourist.outputs.items()
        for media_type in re.findall(r"mlflow models predict .* -t (json|csv)", command)
    }
    assert predictions["json"]
    assert predictions["csv"] == predictions["json"]

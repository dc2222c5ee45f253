"""The README followed on a fresh clone with an empty home: each of its commands, in order, and what it shows."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.conftest import REAL_DATA
from tests.tour import plan
from tests.tour.readme import Command, Shown, missing, shown
from tests.tour.tourist import COMMANDS, Tourist, arrived

TYPED = [command for command in COMMANDS if not plan.elsewhere(command)]
SHOWN = [block for block in shown() if block.command not in plan.ELSEWHERE]


@pytest.fixture(scope="module")
def tourist(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tourist]:
    with arrived(tmp_path_factory.mktemp("tour")) as here:
        yield here


@pytest.mark.parametrize("command", TYPED, ids=[f"line {one.line}: {one.text[:60]}" for one in TYPED])
def test_the_command_does_what_it_says(tourist: Tourist, command: Command) -> None:
    if "data=uci" in command.text and not REAL_DATA.is_file():
        pytest.skip(f"the real data set is not at {REAL_DATA}")
    status, output = tourist.type(command)
    assert not status, output[-3000:]
    assert "Traceback" not in output


@pytest.mark.parametrize("block", SHOWN, ids=[f"line {one.line}" for one in SHOWN])
def test_what_the_readme_shows_is_what_came(tourist: Tourist, block: Shown) -> None:
    said = tourist.said.get(block.command)
    assert said is not None, f"line {block.line}: nothing was typed that is `{block.command}`"
    assert not missing(block.body, said), said[-4000:]


def test_a_table_is_answered_alike_as_json_and_as_csv(tourist: Tourist) -> None:
    answers = {
        kind: re.findall(r'"probability": ([\d.]+)', said)
        for command, said in tourist.said.items()
        for kind in re.findall(r"mlflow models predict .* -t (json|csv)", command)
    }
    assert len(answers["json"]) == 5
    assert answers["csv"] == answers["json"]

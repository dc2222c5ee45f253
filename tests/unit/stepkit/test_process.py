"""stepkit.process: a process that lives, one that died, and another one with its number."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from stepkit.process import HOST, PID, STARTED, is_alive, process_tags, started_at
from tests.support.servers import wait_until


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def test_this_process_lives() -> None:
    assert is_alive(process_tags()) is True


def test_a_killed_process_is_dead_also_before_its_parent_has_seen_it(child: subprocess.Popen[bytes]) -> None:
    tags = {**process_tags(), PID: str(child.pid), STARTED: started_at(child.pid)}
    assert is_alive(tags) is True
    child.send_signal(signal.SIGKILL)
    wait_until(lambda: is_alive(tags) is False, "the killed process counts as dead")
    child.wait()
    assert is_alive(tags) is False


def test_another_process_with_the_number_of_a_dead_one_is_not_it(child: subprocess.Popen[bytes]) -> None:
    assert is_alive({**process_tags(), PID: str(child.pid), STARTED: "1"}) is False


@pytest.mark.parametrize("tags", [{}, {**process_tags(), HOST: "elsewhere 1f"}, {**process_tags(), PID: ""}], ids=len)
def test_of_other_hosts_and_of_runs_without_tags_nothing_is_known(tags: dict[str, str]) -> None:
    assert is_alive(tags) is None

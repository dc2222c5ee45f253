"""stepkit.processes: signals, the end of child processes, and the identity of a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stepkit.paths import ROOT
from stepkit.processes import (
    HOST,
    PID,
    STARTED,
    defer_ctrl_c,
    end_groups,
    is_alive,
    make_process_tags,
    read_start_time,
    start_in_session,
)
from tests.support.servers import wait_until


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def test_this_process_lives() -> None:
    assert is_alive(make_process_tags()) is True


def test_a_killed_process_is_dead_also_before_its_parent_has_seen_it(child: subprocess.Popen[bytes]) -> None:
    tags = {**make_process_tags(), PID: str(child.pid), STARTED: read_start_time(child.pid)}
    assert is_alive(tags) is True
    child.send_signal(signal.SIGKILL)
    wait_until(lambda: is_alive(tags) is False, "the killed process counts as dead")
    child.wait()
    assert is_alive(tags) is False


def test_another_process_with_the_number_of_a_dead_one_is_not_it(child: subprocess.Popen[bytes]) -> None:
    assert is_alive({**make_process_tags(), PID: str(child.pid), STARTED: "1"}) is False


@pytest.mark.parametrize(
    "tags", [{}, {**make_process_tags(), HOST: "elsewhere 1f"}, {**make_process_tags(), PID: ""}], ids=len
)
def test_the_state_of_other_hosts_and_of_runs_without_tags_is_unknown(tags: dict[str, str]) -> None:
    assert is_alive(tags) is None


SIGNALLED_TWICE = """
import os, signal
from stepkit.processes import interrupt_on_signals
interrupt_on_signals()
try:
    os.kill(os.getpid(), signal.{first})
except KeyboardInterrupt:
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    print("ended in order")
"""


@pytest.mark.parametrize("first", ["SIGINT", "SIGTERM"])
def test_further_signals_do_not_disturb_the_end_that_the_first_began(first: str) -> None:
    words = [sys.executable, "-c", SIGNALLED_TWICE.format(first=first)]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "ended in order\n", "")


DEAF_BASH = "trap '' TERM; (trap '' TERM; echo $BASHPID; sleep 600) & wait"


def test_a_group_that_ignores_sigterm_is_killed_with_its_children(tmp_path: Path) -> None:
    log_file = tmp_path / "log"
    leader = start_in_session(["bash", "-c", DEAF_BASH], log_file, dict(os.environ), tmp_path)
    wait_until(lambda: log_file.read_text().endswith("\n"), "the child has started")
    end_groups([leader], seconds=0.2)
    assert leader.returncode == -signal.SIGKILL
    wait_until(lambda: not read_start_time(int(log_file.read_text())), "the child is killed too", 10)


ORPHAN = '''
import subprocess, sys
child = """
import time
from stepkit.processes import end_with_parent
end_with_parent(lambda: print("ended", flush=True))
print("started", flush=True)
time.sleep(600)
"""
subprocess.run([sys.executable, "-c", child])
'''


def test_a_process_ends_with_its_killed_parent() -> None:
    words = [sys.executable, "-c", ORPHAN]
    parent = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    assert parent.stdout.readline() == "started\n"
    parent.kill()
    assert parent.stdout.readline() == "ended\n"


def test_ctrl_c_while_a_child_starts_is_handled_afterwards_and_ignored_by_the_child() -> None:
    started = []

    def start() -> None:
        with defer_ctrl_c():
            os.kill(os.getpid(), signal.SIGINT)
            started.append(subprocess.Popen(["sleep", "600"]))

    with pytest.raises(KeyboardInterrupt):
        start()
    child = started[0]
    child.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.2)
    child.kill()
    assert child.wait() == -signal.SIGKILL

"""A call in a process of its own: what it answers and raises comes back, and the process is gone afterwards."""

from __future__ import annotations

import multiprocessing.context
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from serve.batch.subprocess_call import Apart
from serve.errors import ModelRefused, ProcessLost
from stepkit.paths import ROOT
from tests.support.servers import wait_until

pytestmark = pytest.mark.slow


def loaded(name: str) -> bool:
    return name in sys.modules


def process_id() -> int:
    return os.getpid()


def refuse(reason: str) -> None:
    raise ModelRefused(reason)


def end_by(number: int) -> None:
    os.kill(os.getpid(), number)


def interrupt_and_answer() -> str:
    os.kill(os.getpid(), signal.SIGINT)
    return "heeds no Ctrl-C"


def test_a_call_has_the_modules_it_asked_for_and_ours_stay_as_they_were() -> None:
    assert "mailbox" not in sys.modules
    with Apart(loaded, "mailbox") as call:
        assert call("mailbox")
    assert "mailbox" not in sys.modules


def test_a_process_ends_with_its_block_whether_it_was_asked_or_not() -> None:
    with Apart(process_id) as call:
        asked = call()
        assert asked != os.getpid()
    with Apart(process_id) as unasked:
        waiting = unasked._process.pid
    assert waiting is not None
    assert [pid for pid in (asked, waiting) if psutil.pid_exists(pid)] == []


def test_an_error_is_raised_here_as_it_was_there() -> None:
    with Apart(refuse) as call, pytest.raises(ModelRefused, match="version 3 is no good"):
        call("version 3 is no good")


def test_a_module_that_is_not_there_is_told_at_the_call() -> None:
    with Apart(process_id, "no.such.module") as call, pytest.raises(RuntimeError, match=r"ModuleNotFoundError") as told:
        call()
    assert "subprocess_call.py" in told.value.__notes__[0], "where it was raised"


def test_a_process_that_is_killed_is_told_with_its_status() -> None:
    with Apart(end_by) as call, pytest.raises(ProcessLost, match=r"status -9 .* memory is short"):
        call(int(signal.SIGKILL))
    with Apart(end_by) as call, pytest.raises(ProcessLost, match=r"status -15 and no answer\.$"):
        call(int(signal.SIGTERM))


ORPHAN = """
import os, sys, time
from serve.batch.subprocess_call import Apart
from tests.unit.serve.test_subprocess_call import tell_and_sleep
if __name__ == "__main__":
    with Apart(tell_and_sleep) as call:
        call(sys.argv[1])
"""


def tell_and_sleep(place: str) -> None:
    Path(place).write_text(str(os.getpid()))
    time.sleep(600)


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_whoever_asked_is_killed_and_the_process_does_not_go_on_alone(tmp_path: Path, by: signal.Signals) -> None:
    told = tmp_path / "pid"
    (tmp_path / "orphan.py").write_text(ORPHAN)
    command = [sys.executable, str(tmp_path / "orphan.py"), str(told)]
    asking = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE)
    wait_until(lambda: bool(told.exists() and told.read_text()) or asking.poll() is not None, "the call is made")
    asked = psutil.Process(int(told.read_text()))
    asking.send_signal(by)
    assert asking.wait(30) == -by
    assert psutil.wait_procs([asked], timeout=30)[1] == []


def test_a_ctrl_c_while_the_process_is_started_is_heeded_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[multiprocessing.context.SpawnProcess] = []
    start = multiprocessing.context.SpawnProcess.start

    def interrupted(process: multiprocessing.context.SpawnProcess) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        start(process)
        started.append(process)

    monkeypatch.setattr(multiprocessing.context.SpawnProcess, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Apart(process_id)
    assert started, "it was not broken off in its middle"


def test_ctrl_c_is_left_to_the_process_that_started_it() -> None:
    with Apart(interrupt_and_answer) as call:
        assert call() == "heeds no Ctrl-C"
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN

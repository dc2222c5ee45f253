"""A call in a process of its own: what it answers and raises comes back, and the process is gone afterwards."""

from __future__ import annotations

import os
import signal
import sys

import psutil
import pytest

from serve.apart import Apart
from serve.errors import ModelRefused, ProcessLost


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
    with Apart(process_id, "no.such.module") as call, pytest.raises(ModuleNotFoundError, match=r"'no'"):
        call()


def test_a_process_that_is_killed_is_told_with_its_status() -> None:
    with Apart(end_by) as call, pytest.raises(ProcessLost, match="status -9"):
        call(int(signal.SIGKILL))


def test_ctrl_c_is_left_to_the_process_that_started_it() -> None:
    with Apart(interrupt_and_answer) as call:
        assert call() == "heeds no Ctrl-C"
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN

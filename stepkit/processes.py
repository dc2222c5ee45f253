"""Processes: how they start, which signals end them, how they end with their parent, and how to recognise one later.

Needs the standard library only, since Airflow's environment has none of this project's packages.
"""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from multiprocessing import connection, parent_process, resource_tracker
from pathlib import Path
from typing import Protocol

HOST, PID, STARTED = "process.host", "process.pid", "process.started"
"""Tags of a run: the host and the number of its process, and when this began (another process may get its number)."""

UNKNOWN = "unknown"
"""Result of `started_at` for a process that exists and whose start cannot be read."""

POLL_SECONDS = 0.5

interrupted = threading.Event()
"""Set when this process is to end. Threads get no signals, and Python drops what is raised in a destructor."""


class Process(Protocol):
    """A started process, as `subprocess.Popen` shows it."""

    pid: int

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...


def interrupt_on_signals() -> None:
    """Turn the first SIGINT or SIGTERM into KeyboardInterrupt, and ignore those that follow while the process ends.

    `mlflow run` answers Ctrl-C with a SIGTERM of its own. In a thread, which cannot set handlers, this does nothing.
    """

    def interrupt(*_: object) -> None:
        interrupted.set()
        ignore_signals()
        raise KeyboardInterrupt

    _handle_signals(interrupt)


def ignore_signals() -> None:
    """Ignore SIGINT and SIGTERM from now on: the process ends already."""
    _handle_signals(signal.SIG_IGN)


def _handle_signals(handler: Callable[..., None] | signal.Handlers) -> None:
    with suppress(ValueError):  # only the main thread may set handlers
        signal.signal(signal.SIGINT, handler)
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def restore_handler(number: signal.Signals) -> Iterator[None]:
    """Restore the handler of a signal, which a library replaces inside."""
    before = signal.getsignal(number)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def defer_ctrl_c() -> Iterator[None]:
    """Start child processes that ignore Ctrl-C, for which this process ends them; handle one that comes now after it.

    Blocking SIGINT alone would not defer it: any thread of a library may receive it, and Python then handles it.
    """
    resource_tracker.ensure_running()  # multiprocessing would start it inside, and unblock the signal then
    pressed: list[int] = []
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            stack.enter_context(restore_handler(signal.SIGINT))
            signal.signal(signal.SIGINT, lambda number, _frame: pressed.append(number))
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # children inherit the mask
        stack.callback(signal.pthread_sigmask, signal.SIG_SETMASK, before)
        yield
    if pressed:
        signal.raise_signal(signal.SIGINT)


def accept_ctrl_c() -> None:
    """Let Ctrl-C interrupt this process, whose parent started it with `ctrl_c_deferred`."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGINT, signal.default_int_handler)


def end_with_parent(before_end: Callable[[], None] | None = None, parent_id: int | None = None) -> None:
    """From now on, send this process SIGTERM once its parent has ended, even by `kill -9`.

    Args:
        before_end: called before the signal is sent.
        parent_id: number of the parent, which may have ended before this is called.
    """
    parent, parent_id = parent_process(), parent_id or os.getppid()

    def watch() -> None:
        if parent:  # of multiprocessing; the parent of the system may be its fork server
            connection.wait([parent.sentinel])
        else:
            while os.getppid() == parent_id:
                time.sleep(POLL_SECONDS)
        if before_end:
            before_end()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def start_in_session(
    command: Sequence[str], log_file: Path, env: Mapping[str, str], folder: str | Path
) -> subprocess.Popen[bytes]:
    """Start a command in its own session, which the terminal's Ctrl-C does not reach; append its output to a file."""
    with log_file.open("ab") as output:
        return subprocess.Popen(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )


def end_groups(processes: Sequence[Process], seconds: float) -> None:
    """End processes and the groups that they lead: ask them, wait `seconds` for each, then kill what is left."""
    for process in processes:
        _signal_group(process, signal.SIGTERM)
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            if process.poll() is None:  # it does not lead its group yet
                os.kill(process.pid, number)


def find_free_port() -> int:
    """Return a port of this machine on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_process_tags() -> dict[str, str]:
    """Return the tags that name this process, on runs and claims, so that those of a dead process can be ended."""
    return {HOST: identify_host(), PID: str(os.getpid()), STARTED: read_start_time(os.getpid())}


def is_alive(tags: Mapping[str, str]) -> bool | None:
    """Return whether the process that the tags name lives; None if it is of another host, or they name none."""
    if tags.get(HOST) != identify_host() or not tags.get(PID, "").isdecimal():
        return None
    return read_start_time(int(tags[PID])) in (tags.get(STARTED), UNKNOWN)


def read_start_time(pid: int) -> str:
    """Return when a process began, in a unit of the system's own; "" if it has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass  # another user's
    with suppress(OSError):
        # the name in brackets may hold blanks; then come the state and, 19 fields later, clock ticks since the boot
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    with suppress(OSError):
        shown = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True).stdout
        state, _, began = shown.strip().partition(" ")
        return "" if state.startswith("Z") else began.strip() or UNKNOWN
    return UNKNOWN


@cache
def identify_host() -> str:
    """Return the name of this host and a digest that tells it from others of that name and from its containers."""
    marks = [socket.gethostname()]
    with suppress(OSError):
        marks.append(Path("/etc/machine-id").read_text())
    with suppress(OSError):
        marks.append(str(Path("/proc/self/ns/pid").readlink()))  # each container has its own
    return f"{marks[0]} {hashlib.sha256(' '.join(marks).encode()).hexdigest()[:8]}"

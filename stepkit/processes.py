"""Processes: start them, handle signals, end them together with their parent, and identify them later.

Needs only the standard library, because Airflow's environment has none of this project's packages.
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
"""Tags of a run: host, id and start time of its process. The start time matters because the system reuses ids."""

UNKNOWN = "unknown"
"""Result of `read_start_time` for a process that exists but whose start time cannot be read."""

POLL_SECONDS = 0.5

interrupted = threading.Event()
"""Set when this process must end. Threads receive no signals, and Python drops exceptions raised in a destructor."""


class Process(Protocol):
    """Interface of a started process, as `subprocess.Popen` has it."""

    pid: int

    def poll(self) -> int | None:
        """Return the exit status, or None while the process runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the process to end and return its exit status."""


def interrupt_on_signals() -> None:
    """Turn the first SIGINT or SIGTERM into KeyboardInterrupt and ignore later ones while the process ends.

    `mlflow run` sends an additional SIGTERM after Ctrl-C. In a thread, which cannot set handlers, this has no effect.
    """

    def interrupt(*_: object) -> None:
        interrupted.set()
        ignore_signals()
        raise KeyboardInterrupt

    _handle_signals(interrupt)


def ignore_signals() -> None:
    """Ignore SIGINT and SIGTERM from now on, because the process is already ending."""
    _handle_signals(signal.SIG_IGN)


def _handle_signals(handler: Callable[..., None] | signal.Handlers) -> None:
    with suppress(ValueError):  # only the main thread may set handlers
        signal.signal(signal.SIGINT, handler)
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def restore_handler(number: signal.Signals) -> Iterator[None]:
    """Restore the handler of a signal after the block, in which a library replaces it."""
    handler = signal.getsignal(number)
    try:
        yield
    finally:
        signal.signal(number, handler)


@contextmanager
def defer_ctrl_c() -> Iterator[None]:
    """Start child processes in this block with SIGINT blocked; the parent handles Ctrl-C after the block.

    Blocking SIGINT is not enough: a thread of a library may receive the signal, and Python then handles it.
    """
    # Multiprocessing would start its resource tracker inside the block and unblock the signal then.
    resource_tracker.ensure_running()
    pressed: list[int] = []
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            stack.enter_context(restore_handler(signal.SIGINT))
            signal.signal(signal.SIGINT, lambda number, _frame: pressed.append(number))
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # child processes inherit the new mask
        stack.callback(signal.pthread_sigmask, signal.SIG_SETMASK, mask)
        yield
    if pressed:
        signal.raise_signal(signal.SIGINT)


def accept_ctrl_c() -> None:
    """Let Ctrl-C interrupt this process, which its parent started inside `defer_ctrl_c`."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGINT, signal.default_int_handler)


def end_with_parent(before_end: Callable[[], None] | None = None, parent_id: int | None = None) -> None:
    """Watch the parent process, and send SIGTERM to this process when the parent has ended, even by `kill -9`.

    Args:
        before_end: function to call before the signal is sent.
        parent_id: process id of the parent, for the case that the parent may already have ended.
    """
    parent, parent_id = parent_process(), parent_id or os.getppid()

    def watch() -> None:
        if parent:  # started by multiprocessing, whose fork server may be the parent for the operating system
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
    """Start a command in its own session, out of reach of the terminal's Ctrl-C, and append its output to a file."""
    with log_file.open("ab") as output:
        return subprocess.Popen(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )


def end_groups(processes: Sequence[Process], seconds: float) -> None:
    """End processes and their process groups: send SIGTERM, wait up to `seconds` for each, then send SIGKILL."""
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
            if process.poll() is None:  # the process has not become the leader of its group yet
                os.kill(process.pid, number)


def find_free_port() -> int:
    """Return a free TCP port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_process_tags() -> dict[str, str]:
    """Return the tags that identify this process on runs and claims, so that those of a dead process can be ended."""
    return {HOST: identify_host(), PID: str(os.getpid()), STARTED: read_start_time(os.getpid())}


def is_alive(tags: Mapping[str, str]) -> bool | None:
    """Return whether the process in the tags is running; None if it is on another host or the tags name no process."""
    if tags.get(HOST) != identify_host() or not tags.get(PID, "").isdecimal():
        return None
    return read_start_time(int(tags[PID])) in (tags.get(STARTED), UNKNOWN)


def read_start_time(pid: int) -> str:
    """Return the start time of a process in the operating system's own format, or "" if it has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass  # the process belongs to another user
    with suppress(OSError):
        # The name in brackets may contain spaces. The state follows, and 19 fields later the clock ticks since boot.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    with suppress(OSError):
        status = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True).stdout
        state, _, start_time = status.strip().partition(" ")
        return "" if state.startswith("Z") else start_time.strip() or UNKNOWN
    return UNKNOWN


@cache
def identify_host() -> str:
    """Return the host name with a digest, which differs for other hosts of that name and for each container."""
    host_ids = [socket.gethostname()]
    with suppress(OSError):
        host_ids.append(Path("/etc/machine-id").read_text())
    with suppress(OSError):
        host_ids.append(str(Path("/proc/self/ns/pid").readlink()))  # each container has its own PID namespace
    return f"{host_ids[0]} {hashlib.sha256(' '.join(host_ids).encode()).hexdigest()[:8]}"

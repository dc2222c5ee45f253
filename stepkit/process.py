"""Identity of a process, noted on runs and claims, so that those of a process that died can be ended later."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import RunTag

HOST, PID, STARTED = "process.host", "process.pid", "process.started"
"""Tags of a run: the host and the number of its process, and when this began (another process may get its number)."""


def process_tags() -> dict[str, str]:
    """Return the tags that name this process."""
    return {HOST: this_host(), PID: str(os.getpid()), STARTED: started_at(os.getpid())}


def note_process(run_id: str) -> None:
    """Name this process on a run as the one that ends it."""
    MlflowClient().log_batch(run_id, tags=[RunTag(key, text) for key, text in process_tags().items()])


def is_alive(tags: Mapping[str, str]) -> bool | None:
    """Return whether the process that the tags name lives; None if it is of another host, or they name none."""
    if tags.get(HOST) != this_host() or not tags.get(PID, "").isdecimal():
        return None
    return started_at(int(tags[PID])) in (tags.get(STARTED), UNKNOWN)


UNKNOWN = "unknown"
"""Result of `started_at` for a process that exists and whose start cannot be read."""


def started_at(pid: int) -> str:
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
def this_host() -> str:
    """Return the name of this host and a digest that tells it from others of that name and from its containers."""
    marks = [socket.gethostname()]
    with suppress(OSError):
        marks.append(Path("/etc/machine-id").read_text())
    with suppress(OSError):
        marks.append(str(Path("/proc/self/ns/pid").readlink()))  # each container has its own
    return f"{marks[0]} {hashlib.sha256(' '.join(marks).encode()).hexdigest()[:8]}"

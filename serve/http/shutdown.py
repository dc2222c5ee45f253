"""Shutdown after the parent process ends: the scorer finishes the requests it has accepted, then ends too."""

from __future__ import annotations

import os
from functools import partial

from serve.http.event_log import log_event
from stepkit.processes import end_with_parent

SUPERVISOR_VARIABLE = "SCORER_SUPERVISOR"
"""Environment variable in which run.py, the supervisor, passes its process id to the workers."""


def stop_with_parent(parent: int) -> None:
    """Stop this process, with a log event, as soon as its parent ends.

    A killed `mlflow run` or supervisor sends no signal to its children, which would keep the port and still serve.
    """
    end_with_parent(partial(log_event, "parent_gone", pid=os.getpid(), parent=parent))


def is_orphaned_worker() -> bool:
    """Return True in a worker whose supervisor has ended."""
    supervisor = os.environ.get(SUPERVISOR_VARIABLE)
    return supervisor is not None and os.getppid() != int(supervisor)

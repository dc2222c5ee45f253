"""The end of the process that started a scorer: the scorer then ends too, and finishes what it accepted."""

from __future__ import annotations

import os
from functools import partial

from serve.http.event_log import log_event
from stepkit.processes import end_with_parent

SUPERVISOR_VARIABLE = "SCORER_SUPERVISOR"
"""Variable by which run.py tells its workers the process id of their supervisor, itself."""


def stop_with_parent(parent: int) -> None:
    """From now on, log the end of this process's parent and end with it.

    A `mlflow run` that is killed passes no signal on, nor does a supervisor that is killed tell its workers: they would
    keep the port, and answer with nobody to stop them.
    """
    end_with_parent(partial(log_event, "parent_gone", pid=os.getpid(), parent=parent))


def is_orphaned_worker() -> bool:
    """Whether this is a worker whose supervisor is gone."""
    supervisor = os.environ.get(SUPERVISOR_VARIABLE)
    return supervisor is not None and os.getppid() != int(supervisor)

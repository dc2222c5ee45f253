"""What ends a scorer: a signal, or the end of the process that started it; either way it finishes what it accepted."""

from __future__ import annotations

import os
import signal
import threading
import time

from serve.http.event_log import note

SUPERVISOR = "SCORER_SUPERVISOR"
"""Variable by which run.py tells its workers the process id of their supervisor, itself."""

SECONDS_BETWEEN_LOOKS = 0.5

_asked = threading.Event()


def interrupt_on_signals() -> None:
    """Turn the first SIGTERM or SIGINT into KeyboardInterrupt, and let none disturb the ending that follows.

    While uvicorn serves it takes the signals itself, and raises them again afterwards. `mlflow run` answers Ctrl-C
    with a SIGTERM of its own.
    """

    def interrupt(*_: object) -> None:
        _asked.set()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)


def was_asked_to_end() -> bool:
    """Whether a signal came, even if its KeyboardInterrupt is lost: Python drops what is raised in a destructor."""
    return _asked.is_set()


def end_with(parent: int) -> None:
    """From now on, send this process SIGTERM once `parent` is its parent no more.

    A `mlflow run` that is killed passes no signal on, nor does a supervisor that is killed tell its workers: they would
    keep the port, and answer with nobody to stop them.
    """
    threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()


def is_orphaned_worker() -> bool:
    """Whether this is a worker whose supervisor is gone."""
    supervisor = os.environ.get(SUPERVISOR)
    return supervisor is not None and os.getppid() != int(supervisor)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    note("parent_gone", pid=os.getpid(), parent=parent)
    os.kill(os.getpid(), signal.SIGTERM)

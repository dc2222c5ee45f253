"""How this process deals with its surroundings: signals that end it, and libraries that would talk too much."""

from __future__ import annotations

import logging
import os
import signal
import threading
from contextlib import suppress

interrupted = threading.Event()
"""Set when this process is to end: threads get no signals, and look here."""


def keep_quiet() -> None:
    """Let MLflow and alembic show warnings only, no progress bars for files of a few bytes, no address of every run."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


def end_on_signals() -> None:
    """Turn the first SIGINT or SIGTERM into KeyboardInterrupt, and let none disturb the ending that follows.

    `mlflow run` answers Ctrl-C with a SIGTERM of its own while this process is ending its children already.
    """

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    with suppress(ValueError):  # only a main thread may set handlers; a step called from a thread keeps its caller's
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, interrupt)

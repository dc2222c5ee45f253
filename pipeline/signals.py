"""Turn the first SIGINT or SIGTERM into KeyboardInterrupt, and let none disturb the ending that follows."""

from __future__ import annotations

import signal


def end_on_signals() -> None:
    """`mlflow run` answers Ctrl-C with a SIGTERM of its own while this process is ending its children already."""

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)

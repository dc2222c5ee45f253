"""Wait for what takes its time, and say what was waited for when it does not come."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 600.0
"""Seconds after which something is taken not to happen any more, on a machine that has much else to do."""


class WaitedInVain(Exception):
    """Something did not happen in time."""


def wait_for(condition: Callable[[], bool], what: str, seconds: float, pause: float = 0.5) -> None:
    """Look again and again until a condition holds.

    Raises:
        WaitedInVain: it does not after so many seconds.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise WaitedInVain(f"waited {seconds:g} s in vain for {what}")
        time.sleep(pause)

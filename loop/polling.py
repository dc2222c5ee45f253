"""Waiting for an event, with an error that names the event."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS_TO_WAIT = 600.0
"""Time limit for one event; large, because the machine may be busy."""


class StoryFailed(Exception):
    """A command failed, a server ended too early, or an expected event did not happen."""


def wait_for(condition: Callable[[], bool], event: str) -> None:
    """Poll until a condition is true; raise StoryFailed after `SECONDS_TO_WAIT`."""
    end = time.monotonic() + SECONDS_TO_WAIT
    while not condition():
        if time.monotonic() > end:
            raise StoryFailed(f"{event}: did not happen within {SECONDS_TO_WAIT:g} s")
        time.sleep(0.5)

"""Wait for an event that takes its time, and name it when it does not come."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS_TO_WAIT = 600.0
"""Seconds after which an event is not expected any more, on a machine that has much else to do."""


class StoryFailed(Exception):
    """A command failed, a server ended too soon, or an event of the story did not come, or came differently."""


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Look again and again until a condition holds; raise StoryFailed if it does not within `PATIENCE`."""
    end = time.monotonic() + SECONDS_TO_WAIT
    while not condition():
        if time.monotonic() > end:
            raise StoryFailed(f"waited {SECONDS_TO_WAIT:g} s in vain for {what}")
        time.sleep(0.5)

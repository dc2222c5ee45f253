"""When an event is told: pure rules over what an address was told before. No database, no clock, no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

State = Literal["alarm", "fine", "news", "silent"]
"""alarm: something is wrong. fine: it is well (again). news: told once, whatever stands. silent: changes nothing."""


@dataclass(frozen=True)
class Event:
    """Something that may be worth a message.

    Attributes:
        topic: what it is about; alarms and their end are counted for each topic by itself.
        level: how grave an alarm is; one that grows graver is told at once.
        key: what makes it the same event when a task runs again: its window, its DAG run.
        until: the end of the window that it is about (or the moment itself); UTC.
        may_repeat: an alarm that stands is told again at once: the policy that let it through has seen to the cooldown.
    """

    topic: str
    state: State
    key: str
    until: datetime
    title: str
    body: str
    level: int = 1
    may_repeat: bool = False


@dataclass(frozen=True)
class SentMessage:
    """A message that one address has received."""

    state: State
    key: str
    until: datetime
    at: datetime
    level: int = 1


def explain_silence(event: Event, told: Sequence[SentMessage], now: datetime, cooldown: timedelta) -> str:
    """Return why an event is not told to an address, in words, or "" if it is to be told.

    Args:
        told: what that address was told of this topic, oldest first.
        cooldown: how long an alarm that stands is not repeated.
    """
    if any((one.state, one.key, one.level) == (event.state, event.key, event.level) for one in told):
        return "told before"
    if event.state == "news":
        return ""
    last = next((one for one in reversed(told) if one.state != "news"), None)
    if last and event.until < last.until:
        return "about an older window than the last message"
    if event.state == "fine":
        return "" if last and last.state == "alarm" else "no alarm stands"
    stands = last and last.state == "alarm" and event.level <= last.level and not event.may_repeat
    if last and stands and now - last.at < cooldown:
        return f"the alarm stands and was told less than {cooldown / timedelta(hours=1):g} h ago"
    return ""

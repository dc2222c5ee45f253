"""Rules that decide when an event is sent, from the messages that an address received before.

Pure functions: no database, no clock, no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

State = Literal["alarm", "fine", "news", "silent"]
"""alarm: something is wrong. fine: all-clear. news: sent once, whatever the state. silent: never sent."""


@dataclass(frozen=True)
class Event:
    """Event that may be worth a message.

    Attributes:
        topic: the subject; alarms and all-clears are counted per topic.
        level: severity of an alarm; a higher level than before is sent at once.
        key: identifies the event when a task runs again: its window, or its DAG run.
        until: end of the window, or the time of the event; UTC.
        may_repeat: an active alarm is sent again at once, because the policy has already applied the cooldown.
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
    """Message that one address has received."""

    state: State
    key: str
    until: datetime
    at: datetime
    level: int = 1


def explain_silence(event: Event, sent: Sequence[SentMessage], now: datetime, cooldown: timedelta) -> str:
    """Return the reason why an event is not sent to an address, or "" if it is to be sent.

    Args:
        event: the event.
        sent: messages about this topic that the address has received, oldest first.
        now: the current time, UTC.
        cooldown: an active alarm is not repeated within this time.
    """
    if any((message.state, message.key, message.level) == (event.state, event.key, event.level) for message in sent):
        return "already sent"
    if event.state == "news":
        return ""
    last = next((message for message in reversed(sent) if message.state != "news"), None)
    # A window that ended after its message was sent had a wrong time, which must not silence later ones.
    if last and event.until < last.until <= last.at:
        return "older window than the last message"
    if event.state == "fine":
        return "" if last and last.state == "alarm" else "no active alarm"
    is_active = last and last.state == "alarm" and event.level <= last.level and not event.may_repeat
    if last and is_active and now - last.at < cooldown:
        return f"same alarm sent less than {cooldown / timedelta(hours=1):g} h ago"
    return ""

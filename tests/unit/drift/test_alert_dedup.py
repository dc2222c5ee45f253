"""Rules that decide when an event is sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from drift.alerts.dedup import Event, SentMessage, State, explain_silence

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def make_event(
    state: State = "alarm", key: str = "w2", day: int = 2, level: int = 1, may_repeat: bool = False
) -> Event:
    until = datetime(2026, 11, day, tzinfo=UTC)
    return Event("drift", state, key, until, "title", "body", level, may_repeat)


def make_message(
    state: State = "alarm", key: str = "w1", day: int = 1, level: int = 1, hours_ago: float = 1
) -> SentMessage:
    return SentMessage(state, key, datetime(2026, 11, day, tzinfo=UTC), NOON - timedelta(hours=hours_ago), level)


CASES = {
    "the first alarm is sent": (make_event(), [], ""),
    "an active alarm is not sent again within the cooldown": (
        make_event(), [make_message(hours_ago=5.9)], "same alarm",
    ),
    "an active alarm is sent again after the cooldown": (make_event(), [make_message(hours_ago=6)], ""),
    "an alarm that the policy let through is sent at once": (
        make_event(may_repeat=True), [make_message(hours_ago=0.1)], "",
    ),
    "a more severe alarm is sent at once": (make_event(level=2), [make_message(level=1, hours_ago=0.1)], ""),
    "an alarm after an all-clear is sent at once": (
        make_event(key="w3", day=3), [make_message(), make_message("fine", "w2", 2, 1, 0.1)], "",
    ),
    "the same window is sent once, even much later": (
        make_event(may_repeat=True), [make_message("alarm", "w2", 2, hours_ago=99)], "already sent",
    ),
    "the same window is sent once, even after other messages": (
        make_event(may_repeat=True), [make_message("alarm", "w2", 2), make_message("fine", "w2b", 2)], "already sent",
    ),
    "an alarm of an older window than the last message is not sent": (
        make_event(key="w0", day=1, may_repeat=True), [make_message("alarm", "w9", 9, hours_ago=99)], "older window",
    ),
    "an all-clear of an older window than the last message is not sent": (
        make_event("fine", key="w0", day=1), [make_message("alarm", "w9", 9)], "older window",
    ),
    "a window of today is sent although the last one ended in the future": (
        make_event(key="w3", day=24, may_repeat=True), [make_message("alarm", "w2", 30, hours_ago=1)], "",
    ),
    "a window of today is sent although a cleared one ended in the future": (
        make_event(key="w3", day=24), [make_message("fine", "w2", 30, hours_ago=1)], "",
    ),
    "an all-clear is sent": (make_event("fine"), [make_message()], ""),
    "an all-clear is sent once": (
        make_event("fine", key="w3", day=3), [make_message(), make_message("fine", "w2", 2)], "no active alarm",
    ),
    "an all-clear without an alarm is not sent": (make_event("fine"), [], "no active alarm"),
    "news is sent during an alarm": (make_event("news"), [make_message()], ""),
    "news is sent once": (make_event("news", key="w1", day=1), [make_message("news", "w1")], "already sent"),
    "news does not end an alarm": (make_event(), [make_message(), make_message("news", "n")], "same alarm"),
    "news is not a newer window": (make_event("fine"), [make_message(), make_message("news", "n", 3)], ""),
}  # fmt: skip


@pytest.mark.parametrize(("event", "sent", "reason"), CASES.values(), ids=CASES)
def test_an_event_is_sent_or_skipped(event: Event, sent: list[SentMessage], reason: str) -> None:
    silence = explain_silence(event, sent, NOON, timedelta(hours=6))
    assert silence.startswith(reason)
    assert bool(silence) == bool(reason)

"""Who is told what, and when not: the rules by themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from drift.alerts.dedup import Event, SentMessage, State, explain_silence

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def event(state: State = "alarm", key: str = "w2", day: int = 2, level: int = 1, may_repeat: bool = False) -> Event:
    until = datetime(2026, 11, day, tzinfo=UTC)
    return Event("drift", state, key, until, "title", "body", level, may_repeat)


def told(state: State = "alarm", key: str = "w1", day: int = 1, level: int = 1, hours_ago: float = 1) -> SentMessage:
    return SentMessage(state, key, datetime(2026, 11, day, tzinfo=UTC), NOON - timedelta(hours=hours_ago), level)


CASES = {
    "the first alarm is told": (event(), [], ""),
    "one that stands is not told again within the cooldown": (event(), [told(hours_ago=5.9)], "the alarm stands"),
    "and is after it": (event(), [told(hours_ago=6)], ""),
    "one that a policy let through is told at once": (event(may_repeat=True), [told(hours_ago=0.1)], ""),
    "one that grows graver is told at once": (event(level=2), [told(level=1, hours_ago=0.1)], ""),
    "one after a recovery is told at once": (event(key="w3", day=3), [told(), told("fine", "w2", 2, 1, 0.1)], ""),
    "the same window is told once, however late": (
        event(may_repeat=True), [told("alarm", "w2", 2, hours_ago=99)], "told before",
    ),
    "whatever was told since": (
        event(may_repeat=True), [told("alarm", "w2", 2), told("fine", "w2b", 2)], "told before",
    ),
    "an older window than the last one told says nothing": (
        event(key="w0", day=1, may_repeat=True), [told("alarm", "w9", 9, hours_ago=99)], "about an older window",
    ),
    "nor does its end": (event("fine", key="w0", day=1), [told("alarm", "w9", 9)], "about an older window"),
    "the end of an alarm is told": (event("fine"), [told()], ""),
    "once": (event("fine", key="w3", day=3), [told(), told("fine", "w2", 2)], "no alarm stands"),
    "nothing has ended that never began": (event("fine"), [], "no alarm stands"),
    "news are told whatever stands": (event("news"), [told()], ""),
    "news are told once": (event("news", key="w1", day=1), [told("news", "w1")], "told before"),
    "news do not end an alarm": (event(), [told(), told("news", "n")], "the alarm stands"),
    "news are no newer window": (event("fine"), [told(), told("news", "n", 3)], ""),
}  # fmt: skip


@pytest.mark.parametrize(("what", "before", "why"), CASES.values(), ids=CASES)
def test_an_event_is_told_or_silent(what: Event, before: list[SentMessage], why: str) -> None:
    found = explain_silence(what, before, NOON, timedelta(hours=6))
    assert found.startswith(why)
    assert bool(found) == bool(why)

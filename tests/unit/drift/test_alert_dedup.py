"""Who is told what, and when not: the rules by themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from drift.alerts.dedup import Event, State, Told, why_silent

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SIX_HOURS = timedelta(hours=6)


def event(state: State = "alarm", key: str = "w2", day: int = 2, level: int = 1, may_repeat: bool = False) -> Event:
    until = datetime(2026, 11, day, tzinfo=UTC)
    return Event("drift", state, key, until, "title", "body", level, may_repeat)


def told(state: State = "alarm", key: str = "w1", day: int = 1, level: int = 1, hours_ago: float = 1) -> Told:
    return Told(state, key, datetime(2026, 11, day, tzinfo=UTC), NOON - timedelta(hours=hours_ago), level)


def why(what: Event, *before: Told) -> str:
    return why_silent(what, before, NOON, SIX_HOURS)


def test_the_first_alarm_is_told() -> None:
    assert why(event()) == ""


def test_an_alarm_that_stands_is_not_told_again_within_the_cooldown() -> None:
    assert "stands" in why(event(), told(hours_ago=5.9))


def test_an_alarm_that_stands_is_told_again_after_the_cooldown() -> None:
    assert why(event(), told(hours_ago=6)) == ""


def test_an_alarm_that_a_policy_let_through_is_told_at_once() -> None:
    assert why(event(may_repeat=True), told(hours_ago=0.1)) == ""


def test_an_alarm_that_grows_graver_is_told_at_once() -> None:
    assert why(event(level=2), told(level=1, hours_ago=0.1)) == ""


def test_an_alarm_after_a_recovery_is_told_at_once() -> None:
    assert why(event(key="w3", day=3), told(), told("fine", "w2", 2, hours_ago=0.1)) == ""


def test_the_same_window_is_told_once_however_late_and_whatever_was_told_since() -> None:
    assert why(event(may_repeat=True), told("alarm", "w2", 2, hours_ago=99)) == "told before"
    assert why(event(may_repeat=True), told("alarm", "w2", 2), told("fine", "w2b", 2)) == "told before"


def test_an_older_window_than_the_last_one_told_says_nothing() -> None:
    assert "older" in why(event(key="w0", day=1, may_repeat=True), told("alarm", "w9", 9, hours_ago=99))
    assert "older" in why(event("fine", key="w0", day=1), told("alarm", "w9", 9))


def test_the_end_of_an_alarm_is_told_once() -> None:
    assert why(event("fine"), told()) == ""
    assert why(event("fine", key="w3", day=3), told(), told("fine", "w2", 2)) == "no alarm stands"


def test_nothing_is_told_to_have_ended_that_never_began() -> None:
    assert why(event("fine")) == "no alarm stands"


def test_news_are_told_once_whatever_stands() -> None:
    assert why(event("news"), told()) == ""
    assert why(event("news", key="w1", day=1), told("news", "w1")) == "told before"


def test_news_do_not_end_an_alarm() -> None:
    assert "stands" in why(event(), told(), told("news", "n"))
    assert why(event("fine"), told(), told("news", "n", 3)) == ""

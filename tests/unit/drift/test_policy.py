"""The policy is a pure function: signals, m of n windows, cooldown, cap and rows decide, and the reason says which."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from drift.history import NO_MODEL
from drift.policy import Decision, Observation, decide
from drift.replay import get_watched_name, replay
from stepkit.settings.drift import Policy

POLICY = Policy(confirm=2, of_windows=3, cooldown_hours=24, retrain_cap=2, cap_days=30, alert_cooldown_hours=6)
DRIFT, MISSING = frozenset({"drift_share"}), frozenset({"missing"})
BOTH = MISSING | {"unknown_codes"}
START = datetime(2026, 11, 1, tzinfo=UTC)


def at(hour: float, alarms: frozenset[str] = frozenset(), **more: object) -> Observation:
    known = {"key": f"{hour}", "time": START + timedelta(hours=hour), "rows": 2000, "version": "1", "alarms": alarms}
    return Observation(**{**known, **more})  # type: ignore[arg-type]  # the fields of an observation


def changed(**changes: object) -> Policy:
    return Policy.model_validate({**POLICY.model_dump(), **changes})


def last(*windows: Observation) -> Decision:
    return replay(POLICY, list(windows))[-1][1]


ALERT, RETRAIN, NOTHING = "alert", "retrain", "nothing"
UNJUDGED = at(1, rows=0, judged=False)
CASES = {
    "a quiet window needs nothing": ([at(0)], {}, [NOTHING]),
    "a first alarm is told and a second one retrains": ([at(0, DRIFT), at(1, DRIFT)], {}, [ALERT, RETRAIN]),
    "two alarms of three windows retrain": ([at(0, DRIFT), at(1), at(2, DRIFT)], {}, [ALERT, NOTHING, RETRAIN]),
    "two of four do not": ([at(0, DRIFT), at(1), at(2), at(9, DRIFT)], {}, [ALERT, NOTHING, NOTHING, ALERT]),
    "one of one retrains at once": ([at(0, DRIFT)], {"confirm": 1, "of_windows": 1}, [RETRAIN]),
    "three are needed": ([at(hour, DRIFT) for hour in range(3)], {"confirm": 3}, [ALERT, NOTHING, RETRAIN]),
    "broken data never retrain": ([at(hour, MISSING) for hour in range(4)], {}, [ALERT, NOTHING, NOTHING, NOTHING]),
    "the same alarm is told again after the cooldown and another one at once": (
        [at(0, MISSING), at(5, MISSING), at(7, MISSING), at(8, BOTH)], {}, [ALERT, NOTHING, ALERT, ALERT],
    ),
    "no retraining within the cooldown": (
        [at(hour, DRIFT) for hour in (0, 1, 2, 26)], {}, [ALERT, RETRAIN, NOTHING, RETRAIN],
    ),
    "no more retrainings than the cap within its period": (
        [at(hour, DRIFT) for hour in (0, 30, 60, 90, 24 * 40)], {}, [ALERT, RETRAIN, RETRAIN, ALERT, RETRAIN],
    ),
    "never on few rows": ([at(0, DRIFT), at(9, DRIFT, rows=999)], {}, [ALERT, ALERT]),
    "another version confirms nothing": ([at(0, DRIFT), at(1, DRIFT, version="2")], {}, [ALERT, ALERT]),
    "a window that was not judged decides and confirms nothing": (
        [at(0, DRIFT), UNJUDGED, at(2, DRIFT)], {}, [ALERT, NOTHING, RETRAIN],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("windows", "changes", "expected"), CASES.values(), ids=CASES)
def test_windows_are_decided_about(windows: list[Observation], changes: dict[str, object], expected: list[str]) -> None:
    assert [decision.action for _, decision in replay(changed(**changes), windows)] == expected


@pytest.mark.parametrize(
    ("windows", "reason"),
    [
        ([at(0)], "no signal alarms"),
        ([at(0, DRIFT), at(1, DRIFT)], "drift_share: 2 of the last 2 windows alarm"),
        ([at(0, DRIFT), at(1, DRIFT), at(2, DRIFT)], "cooldown until 2026-11-02 01:00 UTC"),
        # of another version too: the cooldown is the model's
        ([at(0, DRIFT), at(1, DRIFT), at(2, DRIFT, version="2"), at(3, DRIFT, version="2")], "cooldown"),
        ([at(30 * number, DRIFT) for number in range(4)], "2 within 30 days, 2 are allowed"),
        ([at(0, DRIFT), at(1, DRIFT, rows=999)], "999 rows, 1,000 are needed"),
    ],
)
def test_the_reason_says_what_decided(windows: list[Observation], reason: str) -> None:
    assert reason in last(*windows).reason


def test_a_cooldown_is_part_of_the_decision() -> None:
    assert last(at(0, DRIFT), at(1, DRIFT), at(2, DRIFT)).cooldown_until == START + timedelta(hours=25)


def test_recovery_is_said_once_and_counts_across_versions() -> None:
    decided = [one.recovered for _, one in replay(POLICY, [at(0, DRIFT), at(1, version="2"), at(2, version="2")])]
    assert decided == [False, True, False]


def test_a_window_looked_at_late_is_judged_as_in_time() -> None:
    windows = [at(0, DRIFT), at(1, DRIFT), at(2)]
    later = [replace(windows[0], action="alert"), replace(windows[1], action="retrain"), windows[2]]
    assert decide(POLICY, later, windows[1]) == decide(POLICY, later[:1], windows[1])


def test_the_order_of_the_history_does_not_matter() -> None:
    windows = [replace(at(0, DRIFT), action="alert"), at(1)]
    assert decide(POLICY, windows, at(2, DRIFT)) == decide(POLICY, windows[::-1], at(2, DRIFT))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"confirm": 4, "of_windows": 3}, "cannot exceed of_windows"),
        ({"retrain_signals": ["drifts"]}, "unknown signal 'drifts'"),
        ({"cooldown_hours": -1}, "cooldown_hours"),
    ],
)
def test_an_impossible_policy_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        changed(**changes)


@pytest.mark.parametrize(
    ("model_name", "reference", "expected"),
    [
        ("", "", "credit_default"),
        ("mine", "", "mine"),
        ("none", "", NO_MODEL),
        ("", "models:/mine@champion", "mine"),
        ("", "models:/mine/3", "mine"),
        ("mine", "old.csv", "mine"),
    ],
)
def test_page_and_replay_are_of_the_model_that_drift_watches(model_name: str, reference: str, expected: str) -> None:
    assert get_watched_name(model_name, reference) == expected

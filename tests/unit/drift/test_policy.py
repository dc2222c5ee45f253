"""Policy of monitoring: signals, m of n windows, cooldown, cap and rows decide, and the reason names the cause."""

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


def observe(hour: float, alarms: frozenset[str] = frozenset(), **more: object) -> Observation:
    time = START + timedelta(hours=hour)
    fields = {"key": f"{hour}", "time": time, "rows": 2000, "version": "1", "alarms": alarms}
    return Observation(**{**fields, **more})  # type: ignore[arg-type]  # the fields of an observation


def make_policy(**changes: object) -> Policy:
    return Policy.model_validate({**POLICY.model_dump(), **changes})


def decide_last(*windows: Observation) -> Decision:
    return replay(POLICY, list(windows))[-1][1]


ALERT, RETRAIN, NOTHING = "alert", "retrain", "nothing"
NOT_JUDGED = observe(1, rows=0, judged=False)
CASES = {
    "a window without alarms needs nothing": ([observe(0)], {}, [NOTHING]),
    "a first alarm alerts and a second one retrains": ([observe(0, DRIFT), observe(1, DRIFT)], {}, [ALERT, RETRAIN]),
    "two alarms of three windows retrain": (
        [observe(0, DRIFT), observe(1), observe(2, DRIFT)], {}, [ALERT, NOTHING, RETRAIN],
    ),
    "two alarms of four windows do not": (
        [observe(0, DRIFT), observe(1), observe(2), observe(9, DRIFT)], {}, [ALERT, NOTHING, NOTHING, ALERT],
    ),
    "one of one retrains at once": ([observe(0, DRIFT)], {"confirm": 1, "of_windows": 1}, [RETRAIN]),
    "three alarms retrain if confirm is 3": (
        [observe(hour, DRIFT) for hour in range(3)], {"confirm": 3}, [ALERT, NOTHING, RETRAIN],
    ),
    "bad data never retrains": ([observe(hour, MISSING) for hour in range(4)], {}, [ALERT, NOTHING, NOTHING, NOTHING]),
    "the same alarm alerts again after the cooldown and another one at once": (
        [observe(0, MISSING), observe(5, MISSING), observe(7, MISSING), observe(8, BOTH)],
        {}, [ALERT, NOTHING, ALERT, ALERT],
    ),
    "no retraining within the cooldown": (
        [observe(hour, DRIFT) for hour in (0, 1, 2, 26)], {}, [ALERT, RETRAIN, NOTHING, RETRAIN],
    ),
    "no more retrainings than the cap within its period": (
        [observe(hour, DRIFT) for hour in (0, 30, 60, 90, 24 * 40)], {}, [ALERT, RETRAIN, RETRAIN, ALERT, RETRAIN],
    ),
    "no retraining on few rows": ([observe(0, DRIFT), observe(9, DRIFT, rows=999)], {}, [ALERT, ALERT]),
    "an alarm of another version does not confirm": (
        [observe(0, DRIFT), observe(1, DRIFT, version="2")], {}, [ALERT, ALERT],
    ),
    "broken data confirm nothing and hold retraining back": (
        [observe(0, DRIFT | MISSING), observe(1, DRIFT | MISSING), observe(2, DRIFT), observe(3, DRIFT)],
        {}, [ALERT, NOTHING, NOTHING, RETRAIN],
    ),
    "sound alarms retrain only once the data are sound again": (
        [observe(0, DRIFT), observe(1, DRIFT, rows=999), observe(2, DRIFT | MISSING), observe(3, DRIFT)],
        {}, [ALERT, NOTHING, ALERT, RETRAIN],
    ),
    "the same rows do not confirm themselves": (
        [observe(1, DRIFT, start=START), observe(1.02, DRIFT, start=START), observe(3, DRIFT, start=START)],
        {}, [ALERT, NOTHING, NOTHING],
    ),
    "windows that follow one another confirm": (
        [observe(1, DRIFT, start=START), observe(2, DRIFT, start=START + timedelta(hours=1))], {}, [ALERT, RETRAIN],
    ),
    "an alarm that returns after its end alerts again": (
        [observe(0, MISSING), observe(1), observe(2, MISSING), observe(3, MISSING)],
        {}, [ALERT, NOTHING, ALERT, NOTHING],
    ),
    "one alarm of two that returns after its end alerts again": (
        [observe(0, BOTH), observe(1, MISSING), observe(2, BOTH)], {}, [ALERT, NOTHING, ALERT],
    ),
    "rows from the future alert although nothing is judged": (
        [observe(0, frozenset({"clock"}), rows=10, judged=False)], {}, [ALERT],
    ),
    "a window that was not judged has no effect": (
        [observe(0, DRIFT), NOT_JUDGED, observe(2, DRIFT)], {}, [ALERT, NOTHING, RETRAIN],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("windows", "changes", "expected"), CASES.values(), ids=CASES)
def test_the_policy_decides(windows: list[Observation], changes: dict[str, object], expected: list[str]) -> None:
    assert [decision.action for _, decision in replay(make_policy(**changes), windows)] == expected


@pytest.mark.parametrize(
    ("windows", "reason"),
    [
        ([observe(0)], "no alarms"),
        ([observe(0, DRIFT | MISSING)], "drift_share, missing: alarm. No retraining: fix the data first (missing)"),
        ([observe(0, DRIFT), observe(1, DRIFT)], "drift_share: alarm in 2 of the last 2 windows"),
        ([observe(0, DRIFT), observe(1, DRIFT), observe(2, DRIFT)], "cooldown until 2026-11-02 01:00 UTC"),
        # The cooldown belongs to the model, not to the version.
        (
            [
                observe(0, DRIFT),
                observe(1, DRIFT),
                observe(2, DRIFT, version="2"),
                observe(3, DRIFT, version="2"),
            ],
            "cooldown",
        ),
        ([observe(30 * number, DRIFT) for number in range(4)], "2 within 30 days, retrain_cap is 2"),
        ([observe(0, DRIFT), observe(1, DRIFT, rows=999)], "999 rows, retrain_min_rows is 1,000"),
    ],
)
def test_the_reason_names_the_cause(windows: list[Observation], reason: str) -> None:
    assert reason in decide_last(*windows).reason


def test_a_cooldown_is_part_of_the_decision() -> None:
    assert decide_last(observe(0, DRIFT), observe(1, DRIFT), observe(2, DRIFT)).cooldown_until == START + timedelta(
        hours=25
    )


def test_recovery_is_reported_once_and_across_versions() -> None:
    windows = [observe(0, DRIFT), observe(1, version="2"), observe(2, version="2")]
    assert [decision.recovered for _, decision in replay(POLICY, windows)] == [False, True, False]


def test_a_window_compared_late_gets_the_same_decision() -> None:
    windows = [observe(0, DRIFT), observe(1, DRIFT), observe(2)]
    later = [replace(windows[0], action="alert"), replace(windows[1], action="retrain"), windows[2]]
    assert decide(POLICY, later, windows[1]) == decide(POLICY, later[:1], windows[1])


def test_the_order_of_the_history_does_not_matter() -> None:
    windows = [replace(observe(0, DRIFT), action="alert"), observe(1)]
    assert decide(POLICY, windows, observe(2, DRIFT)) == decide(POLICY, windows[::-1], observe(2, DRIFT))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"confirm": 4, "of_windows": 3}, "cannot exceed of_windows"),
        ({"retrain_signals": ["drifts"]}, "unknown signal 'drifts'"),
        ({"cooldown_hours": -1}, "cooldown_hours"),
    ],
)
def test_an_impossible_policy_is_rejected(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_policy(**changes)


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
def test_page_and_replay_show_the_model_that_drift_monitors(model_name: str, reference: str, expected: str) -> None:
    assert get_watched_name(model_name, reference) == expected

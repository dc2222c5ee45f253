"""The policy is a pure function: signals, m of n windows, cooldown, cap and rows decide, and the reason says which."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from drift.history import NO_MODEL
from drift.policy import Decision, Observation, decide
from drift.replay import replay, watched_name
from stepkit.settings.drift import Policy

POLICY = Policy(confirm=2, of_windows=3, cooldown_hours=24, retrain_cap=2, cap_days=30, alert_cooldown_hours=6)
DRIFT = frozenset({"drift_share"})
START = datetime(2026, 11, 1, tzinfo=UTC)


def at(hour: float, alarms: frozenset[str] = frozenset(), **more: object) -> Observation:
    known = {"key": f"{hour}", "time": START + timedelta(hours=hour), "rows": 2000, "version": "1", "alarms": alarms}
    return Observation(**{**known, **more})  # type: ignore[arg-type]  # the fields of an observation


def last(*windows: Observation, policy: Policy = POLICY) -> Decision:
    return replay(policy, list(windows))[-1][1]


def actions(*windows: Observation, policy: Policy = POLICY) -> list[str]:
    return [decision.action for _, decision in replay(policy, list(windows))]


def test_a_quiet_window_needs_nothing() -> None:
    decision = last(at(0))
    assert (decision.action, decision.reason, decision.signals) == ("nothing", "no signal alarms", [])


def test_a_first_alarm_is_told_and_a_second_one_retrains() -> None:
    assert actions(at(0, DRIFT), at(1, DRIFT)) == ["alert", "retrain"]


def test_the_reason_names_signals_and_windows() -> None:
    assert last(at(0, DRIFT), at(1, DRIFT)).reason == "drift_share: 2 of the last 2 windows alarm"


def test_two_alarms_of_three_windows_retrain_and_of_four_do_not() -> None:
    assert actions(at(0, DRIFT), at(1), at(2, DRIFT))[-1] == "retrain"
    assert actions(at(0, DRIFT), at(1), at(2), at(3, DRIFT))[-1] != "retrain"


def test_one_of_one_retrains_at_once() -> None:
    assert actions(at(0, DRIFT), policy=replace_policy(confirm=1, of_windows=1)) == ["retrain"]


def replace_policy(**changes: object) -> Policy:
    return Policy.model_validate({**POLICY.model_dump(), **changes})


def test_broken_data_are_told_and_never_retrain() -> None:
    missing = frozenset({"missing"})
    assert actions(*(at(hour, missing) for hour in range(4))) == ["alert", "nothing", "nothing", "nothing"]


def test_the_same_alarm_is_told_again_after_the_cooldown_and_another_one_at_once() -> None:
    missing, unknown = frozenset({"missing"}), frozenset({"missing", "unknown_codes"})
    assert actions(at(0, missing), at(5, missing), at(7, missing), at(8, unknown)) == [
        "alert", "nothing", "alert", "alert"
    ]  # fmt: skip


def test_no_retraining_within_the_cooldown() -> None:
    windows = [at(hour, DRIFT) for hour in (0, 1, 2, 26)]
    assert actions(*windows) == ["alert", "retrain", "nothing", "retrain"]
    decision = last(*windows[:3])
    assert "cooldown until 2026-11-02 01:00 UTC" in decision.reason
    assert decision.cooldown_until == START + timedelta(hours=25)


def test_no_more_retrainings_than_the_cap_within_its_period() -> None:
    windows = [at(30 * number, DRIFT) for number in range(5)]
    assert actions(*windows).count("retrain") == 2
    assert "2 within 30 days, 2 are allowed" in last(*windows).reason
    assert actions(*windows, at(24 * 40, DRIFT))[-1] == "retrain"


def test_never_on_few_rows() -> None:
    decision = last(at(0, DRIFT), at(1, DRIFT, rows=999))
    assert decision.action != "retrain"
    assert "999 rows, 1,000 are needed" in decision.reason


def test_windows_of_another_version_confirm_nothing_but_count_for_the_cooldown() -> None:
    assert actions(at(0, DRIFT), at(1, DRIFT, version="2")) == ["alert", "alert"]
    windows = [at(0, DRIFT), at(1, DRIFT), at(2, DRIFT, version="2"), at(3, DRIFT, version="2")]
    assert "cooldown" in last(*windows).reason


def test_a_window_that_was_not_judged_decides_nothing_and_confirms_nothing() -> None:
    empty = at(1, rows=0, judged=False)
    assert last(at(0, DRIFT), empty).action == "nothing"
    assert actions(at(0, DRIFT), empty, at(2, DRIFT))[-1] == "retrain"


def test_recovery_is_said_once() -> None:
    decided = [one.recovered for _, one in replay(POLICY, [at(0, DRIFT), at(1), at(2)])]
    assert decided == [False, True, False]


def test_recovery_counts_across_versions() -> None:
    assert last(at(0, DRIFT), at(1, DRIFT), at(2, version="2")).recovered


def test_a_window_looked_at_late_is_judged_as_in_time() -> None:
    windows = [at(0, DRIFT), at(1, DRIFT), at(2)]
    later = [replace(windows[0], action="alert"), replace(windows[1], action="retrain"), windows[2]]
    assert decide(POLICY, later, windows[1]) == decide(POLICY, later[:1], windows[1])


def test_history_is_not_changed_and_its_order_does_not_matter() -> None:
    windows = [replace(at(0, DRIFT), action="alert"), at(1)]
    assert decide(POLICY, windows, at(2, DRIFT)) == decide(POLICY, windows[::-1], at(2, DRIFT))


def test_another_policy_would_have_decided_otherwise() -> None:
    windows = [at(0, DRIFT), at(1, DRIFT), at(2, DRIFT)]
    assert actions(*windows, policy=replace_policy(confirm=3)) == ["alert", "nothing", "retrain"]


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
        replace_policy(**changes)


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
    assert watched_name(model_name, reference) == expected

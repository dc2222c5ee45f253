"""History of windows -> nothing, alert or retrain, and why. Pure: the same history gives the same decision.

Time here is the end of a window, not the clock on the wall: so the past can be replayed, and windows that are looked
at late are judged as they would have been in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from stepkit.settings.drift import Policy

Action = Literal["nothing", "alert", "retrain"]


@dataclass(frozen=True)
class Observation:
    """One window of the past, or the one at hand, whose action is not decided yet."""

    key: str
    time: datetime
    """The window's end."""
    rows: int
    version: str
    alarms: frozenset[str] = frozenset()
    judged: bool = True
    """False: empty, or too few rows to say anything."""
    action: Action = "nothing"


@dataclass(frozen=True)
class Decision:
    """What to do about a window. `signals` are those that alarm; `recovered`: the alarm before it is over."""

    action: Action
    reason: str
    signals: list[str] = field(default_factory=list)
    cooldown_until: datetime | None = None
    recovered: bool = False

    def to_dict(self) -> dict[str, Any]:
        until = self.cooldown_until.isoformat() if self.cooldown_until else None
        return {**asdict(self), "cooldown_until": until}


def decide(policy: Policy, history: Sequence[Observation], now: Observation) -> Decision:
    """Decide about a window.

    Args:
        history: windows of the same model (any version) in any order; those that end later than `now` do not count.
        now: the window at hand.
    """
    past = sorted((one for one in history if one.time < now.time and one.key != now.key), key=lambda one: one.time)
    watched = {*policy.alert_signals, *policy.retrain_signals}
    alarms, until = sorted(now.alarms & watched), _compute_cooldown_end(policy, past)
    if not now.judged:
        return Decision("nothing", f"not judged: {now.rows:,} rows", [], until)
    if not alarms:
        # the window before counts whichever version it was of: a new champion may be the cure
        judged = [one for one in past if one.judged]
        recovered = bool(judged) and bool(judged[-1].alarms & watched)
        return Decision("nothing", "no signal alarms", [], until, recovered)
    same = [one for one in past if one.judged and one.version == now.version]
    last = [*same, now][-policy.of_windows :]
    count = sum(1 for one in last if one.alarms & {*policy.retrain_signals})
    objection = _explain_no_retraining(policy, past, now, count, len(last))
    named = ", ".join(alarms)
    if not objection:
        until = now.time + timedelta(hours=policy.cooldown_hours)
        return Decision("retrain", f"{named}: {count} of the last {len(last)} windows alarm", alarms, until)
    if reported := _find_earlier_report(policy, past, now, alarms):
        return Decision("nothing", f"{named} still; told at {_format_time(reported.time)}. {objection}", alarms, until)
    return Decision("alert", f"{named}. {objection}", alarms, until)


def _explain_no_retraining(policy: Policy, past: list[Observation], now: Observation, count: int, windows: int) -> str:
    """Why an alarm does not lead to a retraining, in words; "" if it does."""
    if not now.alarms & {*policy.retrain_signals}:
        return "No retraining: none of these calls for it"
    if count < policy.confirm:
        return f"No retraining yet: {count} of {windows} windows alarm, {policy.confirm} are needed"
    if now.rows < policy.retrain_min_rows:
        return f"No retraining: {now.rows:,} rows, {policy.retrain_min_rows:,} are needed"
    until = _compute_cooldown_end(policy, past)
    if until is not None and now.time < until:
        return f"No retraining: cooldown until {_format_time(until)}"
    since = now.time - timedelta(days=policy.cap_days)
    lately = [one for one in past if one.action == "retrain" and one.time > since]
    if len(lately) >= policy.retrain_cap:
        return f"No retraining: {len(lately)} within {policy.cap_days:g} days, {policy.retrain_cap} are allowed"
    return ""


def _find_earlier_report(
    policy: Policy, past: list[Observation], now: Observation, alarms: list[str]
) -> Observation | None:
    """The last window within the cooldown that was reported, if the same alarms were."""
    since = now.time - timedelta(hours=policy.alert_cooldown_hours)
    reported = [one for one in past if one.action != "nothing" and one.time > since and one.version == now.version]
    known = frozenset().union(*(one.alarms for one in reported))
    return reported[-1] if reported and set(alarms) <= known else None


def _compute_cooldown_end(policy: Policy, past: list[Observation]) -> datetime | None:
    retrained = [one.time for one in past if one.action == "retrain"]
    return max(retrained) + timedelta(hours=policy.cooldown_hours) if retrained else None


def _format_time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"

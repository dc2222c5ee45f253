"""Policy of monitoring: decides from the history of windows whether to do nothing, alert or retrain, and why.

Time is the end of a window, not the wall clock. The past can therefore be replayed, and a window that is compared late
gets the decision that it would have got in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from stepkit.settings.drift import QUALITY_SIGNALS, Policy

Action = Literal["nothing", "alert", "retrain"]


@dataclass(frozen=True)
class Observation:
    """One window: a past one with its decision, or the current one before the decision."""

    key: str
    time: datetime
    """End of the window."""
    rows: int
    version: str
    alarms: frozenset[str] = frozenset()
    start: datetime | None = None
    """Start of the window; None if it is unknown."""
    judged: bool = True
    """False if the window is empty or has too few rows."""
    action: Action = "nothing"


@dataclass(frozen=True)
class Decision:
    """Decision about a window. `signals` names the alarms; `recovered` is true if the previous window had some."""

    action: Action
    reason: str
    signals: list[str] = field(default_factory=list)
    cooldown_until: datetime | None = None
    recovered: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        until = self.cooldown_until.isoformat() if self.cooldown_until else None
        return {**asdict(self), "cooldown_until": until}


def decide(policy: Policy, history: Sequence[Observation], current: Observation) -> Decision:
    """Return the decision about a window. The same history always gives the same decision.

    Args:
        policy: the signals, thresholds and cooldowns of config.yaml.
        history: windows of the same model, of any version and in any order; those that end after `current` are ignored.
        current: the window to decide about.
    """
    past = sorted(
        (window for window in history if window.time < current.time and window.key != current.key),
        key=lambda window: window.time,
    )
    policy_signals = {*policy.alert_signals, *policy.retrain_signals}
    alarms, until = sorted(current.alarms & policy_signals), _compute_cooldown_end(policy, past)
    if not current.judged and not alarms:
        return Decision("nothing", f"not judged: only {current.rows:,} rows", [], until)
    judged = [window for window in past if window.judged]
    if not alarms:
        # The previous window counts whatever its version: the new champion may be the cure.
        recovered = bool(judged) and bool(judged[-1].alarms & policy_signals)
        return Decision("nothing", "no alarms", [], until, recovered)
    same_version = [window for window in judged if window.version == current.version]
    last = select_disjoint([*same_version, current], policy.of_windows)
    # The alarms of broken data confirm nothing.
    sound = [window for window in last if not window.alarms & {*QUALITY_SIGNALS}]
    count = sum(1 for window in sound if window.alarms & {*policy.retrain_signals})
    objection = _explain_no_retraining(policy, past, current, count)
    names = ", ".join(alarms)
    if not objection:
        until = current.time + timedelta(hours=policy.cooldown_hours)
        windows = "this window" if len(last) == 1 else f"{count} of the last {len(last)} windows"
        return Decision("retrain", f"{names}: alarm in {windows}", alarms, until)
    if earlier := _find_earlier_report(policy, past, current, alarms):
        reported = f"already reported for the window until {_format_time(earlier.time)}"
        return Decision("nothing", f"{names}: {reported}. {objection}", alarms, until)
    return Decision("alert", f"{names}: alarm. {objection}", alarms, until)


def select_disjoint(windows: list[Observation], most: int) -> list[Observation]:
    """Return the newest windows that share no rows, at most `most`, oldest first; `windows` are in order of time.

    Windows that overlap a newer one, such as a window that was compared again, count as one with it.
    """
    selected: list[Observation] = []
    for window in reversed(windows):
        if not selected or window.time <= (selected[-1].start or selected[-1].time):
            selected.append(window)
    return selected[:most][::-1]


def _explain_no_retraining(policy: Policy, past: list[Observation], current: Observation, count: int) -> str:
    """Return the reason why an alarm does not lead to a retraining, or "" if it does."""
    if faults := sorted(current.alarms & {*QUALITY_SIGNALS}):
        return f"No retraining: fix the data first ({', '.join(faults)})"
    if not current.judged:
        return f"Not judged: only {current.rows:,} rows"
    if not current.alarms & {*policy.retrain_signals}:
        return "No retraining: retrain_signals contains none of these"
    if count < policy.confirm:
        return f"No retraining yet: alarm in {count} of {policy.of_windows} windows, confirm is {policy.confirm}"
    if current.rows < policy.retrain_min_rows:
        return f"No retraining: only {current.rows:,} rows, retrain_min_rows is {policy.retrain_min_rows:,}"
    until = _compute_cooldown_end(policy, past)
    if until is not None and current.time < until:
        return f"No retraining: cooldown until {_format_time(until)}"
    since = current.time - timedelta(days=policy.cap_days)
    retrainings = sum(1 for window in past if window.action == "retrain" and window.time > since)
    if retrainings >= policy.retrain_cap:
        return f"No retraining: {retrainings} within {policy.cap_days:g} days, retrain_cap is {policy.retrain_cap}"
    return ""


def _find_earlier_report(
    policy: Policy, past: list[Observation], current: Observation, alarms: list[str]
) -> Observation | None:
    """Return the last window reported within the alert cooldown, if the reports cover all of these alarms.

    An alarm that was absent from a judged window since has ended, and its report does not count.
    """
    since = current.time - timedelta(hours=policy.alert_cooldown_hours)
    lasting, covered, last = {*alarms}, set[str](), None
    for window in reversed([window for window in past if window.judged and window.time > since]):
        lasting &= window.alarms
        if window.action != "nothing" and window.version == current.version:
            last = last or window
            covered |= lasting
    return last if covered == {*alarms} else None


def _compute_cooldown_end(policy: Policy, past: list[Observation]) -> datetime | None:
    times = [window.time for window in past if window.action == "retrain"]
    return max(times) + timedelta(hours=policy.cooldown_hours) if times else None


def _format_time(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"

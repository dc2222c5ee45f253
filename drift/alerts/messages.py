"""What happened, as a message that a person can read: drift, the end of it, a failure, a new model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from drift.alerts.dedup import Event
from stepkit.errors import BadParameter

ALERT, RETRAIN = "alert", "retrain"
_LEVELS = {ALERT: 1, RETRAIN: 2}
_MOST_COLUMNS = 8
_LONGEST_ERROR = 1500


@dataclass(frozen=True)
class Links:
    """Where to look: the tracking server as people reach it ("" for a file), and the page of the DAG run."""

    tracking: str = ""
    airflow: str = ""

    def run(self, experiment_id: str, run_id: str, artifact: str = "") -> str:
        if not self.tracking.startswith("http"):  # a database, whose address may hold a password
            return f"run {run_id}" + (f", artifact {artifact}" if artifact else "") + " (make ui)"
        below = f"/artifacts/{artifact}" if artifact else ""
        address = re.sub(r"//[^/@]*@", "//", self.tracking.rstrip("/"))
        return f"{address}/#/experiments/{experiment_id}/runs/{run_id}{below}"


def of_window(result: Mapping[str, Any], links: Links) -> Event:
    """The event that a drift result is: an alarm, the end of one, or nothing to tell.

    Args:
        result: what `mlflow run ./drift` wrote.
    """
    model, window, action = result["model"], result["window"], result["decision"]["action"]
    alarms = {name: signal for name, signal in result["signals"].items() if signal["alarm"]}
    name = f"{model['name']} version {model['version']}"
    # not the window's own key: with labels that came later it is another comparison, and the same window still
    key = f"version {model['version']}, {window['from']} to {window['to']}"
    event = partial(Event, topic=f"drift of {model['name']}", key=key, until=_moment(window["to"]))
    if action in _LEVELS:
        doing = "retraining begins" if action == RETRAIN else "look at it"
        return event(
            state="alarm", level=_LEVELS[action], may_repeat=True, title=f"Drift: {name}, {doing}",
            body=_lines(_share(result), *_columns(result), *_signals(alarms), *_end(result, links)),
        )  # fmt: skip
    if alarms or not result["signals"]:
        return event(state="silent", title="", body="")
    return event(state="fine", title=f"No more drift: {name}", body=_lines(_share(result), *_end(result, links)))


def of_failure(facts: Mapping[str, Any], links: Links) -> Event:
    """The event that a failed task is: nothing is watched, or retrained, until it is mended."""
    dag, task = facts["dag"], facts["task"]
    return Event(
        topic=_works(dag), state="alarm", key=f"{facts['dag_run']} {task}", until=_moment(facts["at"]), level=2,
        title=f"{dag} failed: {task}",
        body=_lines(
            f"Task {task} of {dag} failed at try {facts['try']}, run {facts['dag_run']}.",
            f"Error: {str(facts['error'])[-_LONGEST_ERROR:]}",
            f"Log: {links.airflow}" if links.airflow else "",
        ),
    )  # fmt: skip


def of_success(facts: Mapping[str, Any], links: Links) -> Event:
    """The event that a DAG run went well: told only if it had failed before."""
    return Event(
        topic=_works(facts["dag"]), state="fine", key=facts["dag_run"], until=_moment(facts["at"]),
        title=f"{facts['dag']} works again",
        body=_lines(f"Run {facts['dag_run']} went well.", f"Look: {links.airflow}" if links.airflow else ""),
    )  # fmt: skip


def of_retraining(facts: Mapping[str, Any], links: Links) -> Event:
    """The event that a retraining ended: which version there is now, and whether it became champion.

    Args:
        facts: the pipeline's `run_id`, and the moment.
    """
    from drift.alerts.retraining_outcome import outcome_of  # it asks MLflow, which others must do without

    outcome = outcome_of(facts["run_id"])
    return Event(
        topic="retraining", state="news", key=outcome.key, until=_moment(facts["at"]), title=outcome.title,
        body=_lines(*outcome.lines, f"Pipeline run: {links.run(outcome.experiment_id, facts['run_id'])}"),
    )  # fmt: skip


def _works(dag: str) -> str:
    return f"whether {dag} works"


def _share(result: Mapping[str, Any]) -> str:
    window = result["window"]
    rows = f"{window['rows']:,} rows" if window.get("rows") is not None else "no rows"
    when = f"{_readable(window['from'])} to {_readable(window['to'])}, {rows}"
    if result.get("drift_share") is None:
        return f"Window {when}."
    return f"{len(result['drifted'])} columns drifted (share {result['drift_share']:.3f}). Window {when}."


def _columns(result: Mapping[str, Any]) -> list[str]:
    drifted = result["drifted"]
    told = [
        f"- {one['column']}: {one['test']} {one['score']:.4g} (threshold {one['threshold']:.4g})"
        for one in drifted[:_MOST_COLUMNS]
    ]
    more = len(drifted) - _MOST_COLUMNS
    return [*told, f"- and {more} more"] if more > 0 else told


def _signals(alarms: Mapping[str, Any]) -> list[str]:
    return [
        f"- signal {name}: {signal['value']:.4g} (threshold {signal['threshold']:.4g})"
        for name, signal in alarms.items()
        if signal["value"] is not None and signal["threshold"] is not None
    ]


def _end(result: Mapping[str, Any], links: Links) -> list[str]:
    here = (str(result["experiment_id"]), str(result["run_id"]))
    return [
        f"Why: {result['decision']['reason']}",
        f"Report: {links.run(*here, _artifact(result))}" if result.get("report") else "",
        f"Run: {links.run(*here)}",
        f"DAG run: {links.airflow}" if links.airflow else "",
    ]


def _artifact(result: Mapping[str, Any]) -> str:
    return str(result["report"]).removeprefix(f"runs:/{result['run_id']}/")


def _lines(*lines: str) -> str:
    return "\n".join(line for line in lines if line)


def _moment(text: str | None) -> datetime:
    """The moment that an ISO text names, UTC if it names no zone; the beginning of time for a window without an end.

    Raises:
        BadParameter: it is no time.
    """
    if not text:
        return datetime.fromtimestamp(0, UTC)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadParameter(f"'{text}' is no time such as 2026-11-24T06:00:00+00:00") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _readable(text: str | None) -> str:
    return _moment(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if text else "?"

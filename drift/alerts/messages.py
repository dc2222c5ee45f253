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

_RESPONSES = {"alert": (1, "look at it"), "retrain": (2, "retraining begins")}
"""Level of the alarm, and what is done about it, by the action of a decision."""

_MAX_COLUMNS = 8
_MAX_ERROR_LENGTH = 1500


@dataclass(frozen=True)
class Links:
    """Where to look: the tracking server as people reach it ("" for a file), and the page of the DAG run."""

    tracking: str = ""
    airflow: str = ""

    def format_run(self, experiment_id: str, run_id: str, artifact: str = "") -> str:
        if not self.tracking.startswith("http"):  # a database, whose address may hold a password
            return f"run {run_id}" + (f", artifact {artifact}" if artifact else "") + " (make ui)"
        below = f"/artifacts/{artifact}" if artifact else ""
        address = re.sub(r"//[^/@]*@", "//", self.tracking.rstrip("/"))
        return f"{address}/#/experiments/{experiment_id}/runs/{run_id}{below}"


def build_window_event(result: Mapping[str, Any], links: Links) -> Event:
    """The event that a drift result is: an alarm, the end of one, or nothing to tell.

    Args:
        result: what `mlflow run ./drift` wrote.
    """
    model, window, action = result["model"], result["window"], result["decision"]["action"]
    alarms = {name: signal for name, signal in result["signals"].items() if signal["alarm"]}
    name = f"{model['name']} version {model['version']}"
    # not the window's own key: with labels that came later it is another comparison, and the same window still
    key = f"version {model['version']}, {window['from']} to {window['to']}"
    event = partial(Event, topic=f"drift of {model['name']}", key=key, until=_parse_time(window["to"]))
    if action in _RESPONSES:
        level, doing = _RESPONSES[action]
        signals = [f"- signal {signal}: {_format_amount(one, 'value')}" for signal, one in alarms.items()]
        return event(
            state="alarm", level=level, may_repeat=True, title=f"Drift: {name}, {doing}",
            body=_join_lines(_format_share(result), *_format_columns(result["drifted"]), *signals, *_format_footer(result, links)),
        )  # fmt: skip
    if alarms or not result["signals"]:
        return event(state="silent", title="", body="")
    return event(
        state="fine",
        title=f"No more drift: {name}",
        body=_join_lines(_format_share(result), *_format_footer(result, links)),
    )


def build_failure_event(facts: Mapping[str, Any], links: Links) -> Event:
    """The event that a failed task is: nothing is watched, or retrained, until it is mended."""
    dag, task = facts["dag"], facts["task"]
    return Event(
        topic=_format_topic(dag), state="alarm", key=f"{facts['dag_run']} {task}", until=_parse_time(facts["at"]), level=2,
        title=f"{dag} failed: {task}",
        body=_join_lines(
            f"Task {task} of {dag} failed at try {facts['try']}, run {facts['dag_run']}.",
            f"Error: {str(facts['error'])[-_MAX_ERROR_LENGTH:]}",
            f"Log: {links.airflow}" if links.airflow else "",
        ),
    )  # fmt: skip


def build_success_event(facts: Mapping[str, Any], links: Links) -> Event:
    """The event that a DAG run went well: told only if it had failed before."""
    return Event(
        topic=_format_topic(facts["dag"]), state="fine", key=facts["dag_run"], until=_parse_time(facts["at"]),
        title=f"{facts['dag']} works again",
        body=_join_lines(f"Run {facts['dag_run']} went well.", f"Look: {links.airflow}" if links.airflow else ""),
    )  # fmt: skip


def build_retraining_event(facts: Mapping[str, Any], links: Links) -> Event:
    """Return the event of a finished retraining: which version there is now, and whether it became champion.

    Args:
        facts: the pipeline's `run_id`, and the moment.

    Raises:
        TrackingUnreachable: the tracking server does not answer.
    """
    # MLflow takes seconds to import, and the other kinds of events do without
    from mlflow import MlflowClient

    from stepkit.store import tracking
    from stepkit.store.champion import find_champion
    from stepkit.store.lineage import BECAUSE, PIPELINE

    tracking.connect()
    client = MlflowClient()
    tags = client.get_run(facts["run_id"]).data.tags
    # with another experiment or tracking server the pipeline opens a run of its own, and the first one names it
    run = client.get_run(tags.get(PIPELINE, facts["run_id"]))
    tags, auc = run.data.tags, run.data.metrics.get("test_roc_auc", float("nan"))
    name, version = tags.get("model_name", "the model"), tags.get("model_version", "?")
    champion = find_champion(client, name)
    replaced = champion is not None and str(champion.version) == version
    return Event(
        topic="retraining", state="news", key=tags.get(BECAUSE + "drift_run_id", run.info.run_id),
        until=_parse_time(facts["at"]),
        title=f"Retrained: {name} version {version} is {'the new' if replaced else 'no'} champion",
        body=_join_lines(
            f"Verdict: {tags.get('verdict', 'none')}, test AUC {auc:.4f}.",
            f"Champion: version {champion.version}." if champion and not replaced else "",
            f"Why it was retrained: {tags.get(BECAUSE + 'reason', 'nobody said')}",
            f"Pipeline run: {links.format_run(run.info.experiment_id, facts['run_id'])}",
        ),
    )  # fmt: skip


def _format_topic(dag: str) -> str:
    return f"whether {dag} works"


def _format_share(result: Mapping[str, Any]) -> str:
    window = result["window"]
    when = f"{_format_time(window['from'])} to {_format_time(window['to'])}, {window['rows']:,} rows"
    return f"{len(result['drifted'])} columns drifted (share {result['drift_share']:.3f}). Window {when}."


def _format_columns(drifted: list[Mapping[str, Any]]) -> list[str]:
    lines = [f"- {one['column']}: {one['test']} {_format_amount(one, 'score')}" for one in drifted[:_MAX_COLUMNS]]
    more = len(drifted) - _MAX_COLUMNS
    return [*lines, f"- and {more} more"] if more > 0 else lines


def _format_amount(found: Mapping[str, Any], name: str) -> str:
    return f"{found[name]:.4g} (threshold {found['threshold']:.4g})"


def _format_footer(result: Mapping[str, Any], links: Links) -> list[str]:
    here = (str(result["experiment_id"]), str(result["run_id"]))
    report = str(result["report"]).removeprefix(f"runs:/{result['run_id']}/")
    return [
        f"Why: {result['decision']['reason']}",
        f"Report: {links.format_run(*here, report)}" if result["report"] else "",
        f"Run: {links.format_run(*here)}",
        f"DAG run: {links.airflow}" if links.airflow else "",
    ]


def _join_lines(*lines: str) -> str:
    return "\n".join(line for line in lines if line)


def _parse_time(text: str) -> datetime:
    """Return the moment that an ISO text names, in UTC if it names no zone; raise BadParameter if it is no time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadParameter(f"'{text}' is no time such as 2026-11-24T06:00:00+00:00") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _format_time(text: str | None) -> str:
    return _parse_time(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if text else "?"

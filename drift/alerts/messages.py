"""Alert messages about drift, its end, a failed task, a recovered DAG and a retrained model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from drift.alerts.dedup import Event
from stepkit.errors import BadParameter

_RESPONSES = {"alert": (1, "check the report"), "retrain": (2, "retraining requested")}
"""Level of the alarm and end of the title, by the action of a decision."""

_MAX_COLUMNS = 8
# Stored in alerts.db and in PagerDuty: an open alarm is cleared only under the topic that raised it.
_TOPIC = "whether {} works"
_MAX_ERROR_LENGTH = 1500


@dataclass(frozen=True)
class Links:
    """URL of the tracking server, as people reach it, and of the DAG run in Airflow; "" if there is none."""

    tracking: str = ""
    airflow: str = ""

    def format_run(self, experiment_id: str, run_id: str, artifact: str = "") -> str:
        """Return the URL of a run or of its artifact; the run's ID if the tracking store has no pages."""
        # The URL of a database may hold a password.
        if not self.tracking.startswith("http"):
            return f"run {run_id}" + (f", artifact {artifact}" if artifact else "") + " (make ui)"
        path = f"/artifacts/{artifact}" if artifact else ""
        url = re.sub(r"//[^/@]*@", "//", self.tracking.rstrip("/"))
        return f"{url}/#/experiments/{experiment_id}/runs/{run_id}{path}"


def build_window_event(result: Mapping[str, Any], links: Links) -> Event:
    """Return the event of a drift result: an alarm, an all-clear, or a silent event.

    Args:
        result: the content of drift.json.
        links: the servers to link to.
    """
    model, window, action = result["model"], result["window"], result["decision"]["action"]
    alarms = {name: signal for name, signal in result["signals"].items() if signal["alarm"]}
    name = f"{model['name']} version {model['version']}"
    # The window's own key changes when labels arrive later, but the window is still the same.
    key = f"version {model['version']}, {window['from']} to {window['to']}"
    event = partial(Event, topic=f"drift of {model['name']}", key=key, until=_parse_time(window["to"]))
    if action in _RESPONSES:
        level, response = _RESPONSES[action]
        signals = [_format_signal(name, signal, result) for name, signal in alarms.items()]
        lines = [_format_share(result), *_format_columns(result["drifted"]), *signals, *_format_footer(result, links)]
        title = f"Drift: {name}, {response}"
        return event(state="alarm", level=level, may_repeat=True, title=title, body=_join_lines(*lines))
    if alarms or not result["signals"]:
        return event(state="silent", title="", body="")
    body = _join_lines(_format_share(result), *_format_footer(result, links))
    return event(state="fine", title=f"Drift cleared: {name}", body=body)


def build_failure_event(facts: Mapping[str, Any], links: Links) -> Event:
    """Return the event of a task that failed: monitoring or retraining stops until someone corrects the cause."""
    dag, task = facts["dag"], facts["task"]
    return Event(
        topic=_format_topic(dag), state="alarm", key=f"{facts['dag_run']} {task}", until=_parse_time(facts["at"]),
        level=2, title=f"{dag}: task {task} failed",
        body=_join_lines(
            f"Task {task} of {dag} failed on try {facts['try']} (DAG run {facts['dag_run']}).",
            f"Error: {str(facts['error'])[-_MAX_ERROR_LENGTH:]}",
            f"Log: {links.airflow}" if links.airflow else "",
        ),
    )  # fmt: skip


def build_success_event(facts: Mapping[str, Any], links: Links) -> Event:
    """Return the event of a DAG run that succeeded; it is sent only after a failure."""
    return Event(
        topic=_format_topic(facts["dag"]), state="fine", key=facts["dag_run"], until=_parse_time(facts["at"]),
        title=f"{facts['dag']}: recovered",
        body=_join_lines(
            f"DAG run {facts['dag_run']} succeeded.", f"Log: {links.airflow}" if links.airflow else ""
        ),
    )  # fmt: skip


def build_retraining_event(facts: Mapping[str, Any], links: Links) -> Event:
    """Return the event of a finished retraining: the new version, its verdict, and the champion.

    Args:
        facts: `run_id` of the pipeline run, and the time `at`.
        links: the servers to link to.

    Raises:
        TrackingUnreachable: the tracking server does not respond.
    """
    # MLflow takes seconds to import, and the other events do not need it.
    from mlflow import MlflowClient

    from stepkit.store import tracking
    from stepkit.store.champion import find_champion
    from stepkit.store.lineage import BECAUSE, PIPELINE

    tracking.connect()
    client = MlflowClient()
    tags = client.get_run(facts["run_id"]).data.tags
    # With another experiment or tracking server the pipeline opens its own run, and the first run names it.
    run = client.get_run(tags.get(PIPELINE, facts["run_id"]))
    tags, auc = run.data.tags, run.data.metrics.get("test_roc_auc", float("nan"))
    name, version = tags.get("model_name", "the model"), tags.get("model_version", "?")
    champion = find_champion(client, name)
    is_promoted = champion is not None and str(champion.version) == version
    outcome = "is the new champion" if is_promoted else "did not become champion"
    return Event(
        topic="retraining", state="news", key=tags.get(BECAUSE + "drift_run_id", run.info.run_id),
        until=_parse_time(facts["at"]), title=f"Retrained: {name} version {version} {outcome}",
        body=_join_lines(
            f"Verdict: {tags.get('verdict', 'none')}, test ROC AUC {auc:.4f}.",
            f"Champion: version {champion.version}." if champion and not is_promoted else "",
            f"Reason for the retraining: {tags.get(BECAUSE + 'reason', 'not recorded')}",
            f"Pipeline run: {links.format_run(run.info.experiment_id, facts['run_id'])}",
        ),
    )  # fmt: skip


def _format_topic(dag: str) -> str:
    return _TOPIC.format(dag)


def _format_share(result: Mapping[str, Any]) -> str:
    window = result["window"]
    span = f"{_format_time(window['from'])} to {_format_time(window['to'])}, {window['rows']:,} rows"
    return f"Drifted columns: {len(result['drifted'])} (share {result['drift_share']:.3f}). Window: {span}."


def _format_columns(drifted: list[Mapping[str, Any]]) -> list[str]:
    lines = [
        f"- {column['column']}: {column['change'] + ', ' if column.get('change') else ''}{column['test']} "
        f"{_format_amount(column, 'score')}"
        for column in drifted[:_MAX_COLUMNS]
    ]
    more = len(drifted) - _MAX_COLUMNS
    return [*lines, f"- and {more} more"] if more > 0 else lines


def _format_signal(name: str, signal: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """Return a signal with its columns; of broken rules, the share of each column before and now."""
    faults = {fault["column"]: fault for fault in result.get("quality", []) if fault["rule"] == name}
    names = [*signal.get("columns", []), *signal.get("groups", [])]
    parts = [
        f"{column} {faults[column]['reference']:.1%} -> {faults[column]['current']:.1%}" if column in faults else column
        for column in names[:_MAX_COLUMNS]
    ]
    more = [f"{len(names) - _MAX_COLUMNS} more"] if len(names) > _MAX_COLUMNS else []
    listed = f", {', '.join([*parts, *more])}" if parts else ""
    return f"- signal {name}: {_format_amount(signal, 'value')}{listed}"


def _format_amount(finding: Mapping[str, Any], key: str) -> str:
    return f"{finding[key]:.4g} (threshold {finding['threshold']:.4g})"


def _format_footer(result: Mapping[str, Any], links: Links) -> list[str]:
    run = (str(result["experiment_id"]), str(result["run_id"]))
    report = str(result["report"]).removeprefix(f"runs:/{result['run_id']}/")
    return [
        f"Reason: {result['decision']['reason']}",
        f"Report: {links.format_run(*run, report)}" if result["report"] else "",
        f"Run: {links.format_run(*run)}",
        *(f"Next: {command}" for command in result.get("next", [])),
        f"DAG run: {links.airflow}" if links.airflow else "",
    ]


def _join_lines(*lines: str) -> str:
    return "\n".join(line for line in lines if line)


def _parse_time(text: str) -> datetime:
    """Return the time in an ISO 8601 text, UTC if it has no zone; raise BadParameter if it is not a time."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadParameter(f"'{text}': not a time (expected for example 2026-11-24T06:00:00+00:00)") from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _format_time(text: str | None) -> str:
    return _parse_time(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if text else "?"

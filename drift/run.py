"""drift: compare a window of the prediction log with a reference -> drift_report.html, drift.json and a decision."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import Any

import mlflow
import pandas as pd

from drift import history
from drift.compare.inputs import Sides, read_sides
from drift.compare.signals import Judgement, build_clock_signal, judge
from drift.compare.sources import WatchedVersion
from drift.errors import PackagesMissing
from drift.policy import Decision, Observation, decide
from drift.settings import load_monitoring
from stepkit.commands import format_pipeline_command
from stepkit.files import replace_file
from stepkit.model.metric_names import make_metric_name
from stepkit.paths import resolve_path
from stepkit.settings.drift import QUALITY_SIGNALS, STABILITY_SIGNALS, Monitoring
from stepkit.settings.load import format_make_command
from stepkit.step.exit import exit_on_error
from stepkit.step.flags import make_settings_parser
from stepkit.step.run import StepRun, step_run
from stepkit.strict_json import to_json
from stepkit.words import pluralize

log = logging.getLogger("drift")

SECRET_SETTING = "log_url"
"""The setting that may hold a password; it does not change the result."""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    flags = make_settings_parser(Monitoring, "drift", "drift", __doc__)
    flags.add_argument("--result", default="", help="also write drift.json to this file")
    return flags


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = make_parser().parse_args(argv)
    with exit_on_error():  # MLflow records the parameters of a run, so check them before opening one.
        if find_spec("evidently") is None:
            raise PackagesMissing(
                "Evidently: not installed in this environment. Use make drift, or run make .venv/drift.stamp once and "
                "try again, or let MLflow build an environment (--env-manager uv)."
            )
        settings = load_monitoring(vars(args))
    args.step = history.STEP_NAME
    with step_run(args) as run:
        sides = read_sides(run.client, settings, run.folder)
        key = compute_window_key(sides, settings)
        earlier = history.find_earlier_run(run.client, run.experiment_id, run.run_id, key)
        result = reuse_result(run, earlier.info.run_id) if earlier else compare_window(run, sides, settings, key)
        if args.result:
            path = Path(resolve_path(args.result))
            path.parent.mkdir(parents=True, exist_ok=True)
            with replace_file(path) as part:
                part.write_text(to_json(result), encoding="utf-8")


def compute_window_key(sides: Sides, settings: Monitoring) -> str:
    """Return 16 hex digits that identify a comparison: its window, labels, model, reference and settings."""
    current = sides.current
    identity = {
        "window": [str(current.start), str(current.end), len(current.rows)],
        "rows": "" if current.start else compute_digest(current.rows),
        # A new or corrected label changes the performance of the model.
        "scored": [
            values if values is None else compute_digest(pd.Series(values))
            for values in (current.probability, current.label)
        ],
        "model": [sides.model_name, sides.version] if sides.watched_version else [],
        "reference": sides.reference.url,
        "settings": settings.model_dump(exclude={SECRET_SETTING, "current", "reference"}),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def compute_digest(rows: pd.DataFrame | pd.Series) -> str:
    """Return the sha256 digest of a table or column, as hex digits."""
    return hashlib.sha256(pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes()).hexdigest()


def reuse_result(run: StepRun, run_id: str) -> dict[str, Any]:
    """Return the result of the earlier run of this window; this run names it, and is not part of the history."""
    result: dict[str, Any] = mlflow.artifacts.load_dict(f"runs:/{run_id}/{history.RESULT}")
    run.client.delete_tag(run.run_id, history.KEY)
    run.client.set_tag(run.run_id, "same_as", run_id)
    run.log_summary(f"window already compared by run {run_id}: {result['decision']['action']}")
    return result


def compare_window(run: StepRun, sides: Sides, settings: Monitoring, key: str) -> dict[str, Any]:
    """Judge a window, decide about it, publish the result and return it (the content of drift.json)."""
    rows = len(sides.current.rows)
    status = ("too_few_rows" if rows else "empty") if rows < settings.min_rows else history.JUDGED_STATUS
    is_judged, now = status == history.JUDGED_STATUS, datetime.now(UTC)
    clock = Judgement([], signals=build_clock_signal(sides.current) if sides.current.future_rows else {})
    judgement = publish_report(run, sides, settings) if is_judged else clock
    observation = Observation(
        key=key,
        time=min(sides.current.end or now, now),
        start=sides.current.start,
        rows=rows,
        version=sides.version,
        alarms=frozenset(name for name, signal in judgement.signals.items() if signal["alarm"]),
        judged=is_judged,
    )
    past = history.fetch_runs(run.experiment_id, sides.model_name)
    decision = decide(settings, [history.to_observation(past_run) for past_run in past], observation)
    commands = list_next_commands(sides, decision, observation.alarms)
    result = build_result(run, sides, judgement, observation, status)
    result |= {"decision": decision.to_dict(), "next": commands}
    run.publish_json(result, history.RESULT)
    log_tags(result)
    mlflow.log_metrics(list_metrics(result))
    run.log_summary(format_summary(result))
    if decision.action == "retrain" and sides.watched_version:
        log.info("next: retrain on the labelled rows\n%s", "\n".join(format_retraining_commands(sides.watched_version)))
    return result


def format_retraining_commands(version: WatchedVersion) -> list[str]:
    """Return the commands that retrain a model by hand on the labelled rows of the prediction log."""
    table, name = "outputs/labelled.parquet", version.model.name
    labelled = f"mlflow run ./drift -e labelled --env-manager local -P output={table} -P {quote(f'model_name={name}')}"
    overrides = {"data": version.columns.name, "data.file_url": table, "register.model_name": name}
    return [labelled, format_pipeline_command({**overrides, "data.sha256": None, "data.reference_dataset": "none"})]


def publish_report(run: StepRun, sides: Sides, settings: Monitoring) -> Judgement:
    """Judge a window; publish the Evidently report to the run and copy it to the checkout. Return the judgement."""
    from drift.compare import evidently_report

    if settings.tests == "evidently":
        snapshot, columns = evidently_report.compare_by_evidently(sides)
        judgement = judge(sides, settings, columns)
    else:
        judgement = judge(sides, settings)
        snapshot = evidently_report.build_snapshot(sides, judgement)
    path = run.folder / history.REPORT
    snapshot.save_html(str(path))
    run.publish_file(path, history.REPORT)
    folder = history.get_page_folder(sides.model_name)
    folder.mkdir(parents=True, exist_ok=True)
    with replace_file(folder / history.REPORT) as part:
        shutil.copyfile(path, part)
    return judgement


def build_result(
    run: StepRun, sides: Sides, judgement: Judgement, observation: Observation, status: str
) -> dict[str, Any]:
    """Return the content of drift.json, without the decision."""
    current = sides.current
    return {
        "run_id": run.run_id,
        "experiment_id": run.experiment_id,
        "model": {"name": sides.model_name, "version": sides.version},
        "reference": sides.reference.url,
        "current": current.url,
        "window": {
            "from": current.start.isoformat() if current.start else None,
            "to": observation.time.isoformat(),
            "rows": observation.rows,
            "labelled": current.labelled,
            "versions": current.versions,
            "future_rows": current.future_rows,
            "key": observation.key,
        },
        "status": status,
        "dataset_drift": "drift_share" in observation.alarms,
        "drift_share": judgement.drift_share,
        "drifted": [asdict(column) for column in judgement.drifted],
        "columns": [asdict(column) for column in judgement.columns],
        "quality": [asdict(fault) for fault in judgement.faults if fault.alarm],
        "signals": judgement.signals,
        "details": judgement.details,
        "report": f"runs:/{run.run_id}/{history.REPORT}" if observation.judged else None,
    }


def list_next_commands(sides: Sides, decision: Decision, alarms: frozenset[str]) -> list[str]:
    """Return the commands after an alert: compare again once the data are correct, or retrain by hand.

    After a request to retrain, the list of versions shows the new one.
    """
    if decision.action == "nothing":
        return []
    if decision.action == "retrain":
        return [format_make_command("models", sides.model_name)]
    if alarms & {*QUALITY_SIGNALS}:
        return [f"correct the data, then mlflow run ./drift --env-manager local -P current={quote(sides.current.url)}"]
    return format_retraining_commands(sides.watched_version) if sides.watched_version else []


def log_tags(result: dict[str, Any]) -> None:
    """Set the tags of the run: window, model, status, alarms and decision."""
    window, decision = result["window"], result["decision"]
    names = [column["column"] for column in result["columns"]]
    names += get_approval_rates(result)
    mlflow.set_tags(
        {
            history.FROM: window["from"] or "",
            history.TO: window["to"],
            history.ROWS: window["rows"],
            history.MODEL_NAME: result["model"]["name"],
            history.MODEL_VERSION: result["model"]["version"],
            history.REFERENCE: result["reference"],
            history.WINDOW_ADDRESS: result["current"],
            history.STATUS: result["status"],
            history.ALARMS: ",".join(name for name, signal in result["signals"].items() if signal["alarm"]),
            history.REASON: decision["reason"],
            history.DECISION: decision["action"],
            **{history.COLUMN + make_metric_name(name): name for name in names if make_metric_name(name) != name},
        }
    )


def list_metrics(result: dict[str, Any]) -> dict[str, float]:
    """Return the metrics of the run: rows, scores per column, signals and alarms."""
    values: dict[str, float] = {name: result["window"][name] for name in ("rows", "labelled")}
    if result["columns"]:
        values |= {"drift_share": result["drift_share"], "drifted_columns": len(result["drifted"])}
    for column in result["columns"]:
        name = make_metric_name(column["column"])
        values |= {f"drift_score.{name}": column["score"], f"drifted.{name}": int(column["drifted"])}
    for name, signal in result["signals"].items():
        values |= {f"signal.{name}": signal["value"], f"alarm.{name}": int(signal["alarm"])}
        values |= {f"{bound}.{name}": signal[bound] for bound in ("lower", "upper") if bound in signal}
    for name in STABILITY_SIGNALS:
        if name in result["signals"]:
            values[f"threshold.{name}"] = result["signals"][name]["threshold"]
    for index in result["details"].get("stability", {}).get("columns", []):
        if index["value"] is not None:
            values[f"csi.{make_metric_name(index['column'])}"] = index["value"]
    values |= {history.APPROVAL + make_metric_name(name): rate for name, rate in get_approval_rates(result).items()}
    if "reference_auc" in result["details"]:
        values["reference_auc"] = result["details"]["reference_auc"]["value"]
    return values


def get_approval_rates(result: dict[str, Any]) -> dict[str, float]:
    """Return the approval rate of each compared protected group."""
    groups = result["details"].get("groups", [])
    return {f"{group['column']}: {group['group']}": group["after"] for group in groups if not group["reason"]}


def format_summary(result: dict[str, Any]) -> str:
    """Return one line: the drifted columns, the decision, and the columns with unreadable values."""
    rows, decision = result["window"]["rows"], result["decision"]
    if result["status"] != history.JUDGED_STATUS:
        return f"{decision['reason']} ({result['status']})"
    names = [column["column"] for column in result["drifted"]]
    listed = f" ({', '.join(names[:5])}{' ...' if len(names) > 5 else ''})" if names else ""
    unreadable = "".join(
        f". {column['column']}: found {column['rows']:,} {column['kind']} values, expected numbers (first rows "
        f"{', '.join(map(str, column['first']))})"
        for column in result["details"]["unreadable"]
    )
    return (
        f"{pluralize(rows, 'row')}, drifted columns: {len(names)} of {len(result['columns'])}{listed}. "
        f"Decision: {decision['action']} ({decision['reason']}){unreadable}"
    )


if __name__ == "__main__":
    main()

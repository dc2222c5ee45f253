"""drift: a reference + a window of the prediction log -> drift_report.html, drift.json and a decision."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import shutil
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import Any

import mlflow
import pandas as pd

from drift import history
from drift.compare.inputs import Sides, read_sides
from drift.compare.signals import Judged, judge
from drift.compare.sources import Watched
from drift.errors import PackagesMissing
from drift.policy import Decision, Observation, decide
from drift.settings import given_settings
from stepkit.commands import pipeline_command
from stepkit.files import replacing
from stepkit.model.metric_names import metric_name
from stepkit.paths import from_root
from stepkit.settings.drift import Monitoring
from stepkit.step.exit import one_message
from stepkit.step.flags import settings_parser
from stepkit.step.run import StepRun, step_run
from stepkit.strict_json import write_json

log = logging.getLogger("drift")

SECRET = "log_url"
"""May hold a password, and does not change what is found."""


def parser() -> argparse.ArgumentParser:
    flags = settings_parser(Monitoring, "drift", "drift", __doc__)
    flags.add_argument("--result", default="", help="file to which drift.json is written too")
    return flags


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    with one_message():  # before a run is opened, which would keep what was typed
        expect_packages()
        settings = given_settings(vars(args), tuple(Monitoring.model_fields))
    args.step = history.STEP_NAME
    with step_run(args) as run:
        sides = read_sides(run.client, settings, run.folder)
        key = window_key(sides, settings)
        before = history.earlier(run.client, run.experiment_id, run.run_id, key)
        result = repeated(run, before.info.run_id) if before else compared(run, sides, settings, key)
        if args.result:
            write_result(result, Path(from_root(args.result)))


def expect_packages() -> None:
    """Raise PackagesMissing where Evidently is not installed, before anything is computed."""
    if find_spec("evidently") is None:
        raise PackagesMissing(
            "Evidently is not installed here. Type make drift, or once make .venv/drift.stamp and this again; or let "
            "MLflow make an environment: --env-manager uv"
        )


def window_key(sides: Sides, settings: Monitoring) -> str:
    """Say by 16 hex digits what is compared with what, and how: the same again need not be computed again."""
    current = sides.current
    known = {
        "window": [str(current.start), str(current.end), len(current.rows)],
        "rows": "" if current.start else digest(current.rows),
        # a label that was put right says another thing of the model, as a new one does
        "scored": [one if one is None else digest(pd.Series(one)) for one in (current.probability, current.label)],
        "model": [sides.watched.model.name, sides.watched.model.version] if sides.watched else [],
        "reference": sides.reference.address,
        "settings": settings.model_dump(exclude={SECRET, "current", "reference"}),
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def digest(rows: pd.DataFrame | pd.Series) -> str:
    return hashlib.sha256(pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes()).hexdigest()


def repeated(run: StepRun, run_id: str) -> dict[str, Any]:
    """The result of the run that did the same before; this one points at it and stays out of the history."""
    result: dict[str, Any] = mlflow.artifacts.load_dict(f"runs:/{run_id}/{history.RESULT}")
    run.client.delete_tag(run.run_id, history.KEY)
    run.client.set_tag(run.run_id, "same_as", run_id)
    run.say(f"this window was compared before, by run {run_id}: {result['decision']['action']}")
    return result


def compared(run: StepRun, sides: Sides, settings: Monitoring, key: str) -> dict[str, Any]:
    status = status_of(sides, settings)
    judged = Judged([])
    if status == history.JUDGED_STATUS:
        judged = publish_report(run, sides, settings)
    decision = decision_of(run, sides, settings, judged, status, key)
    result = described(run, sides, judged, decision, status, key)
    run.publish_json(result, history.RESULT)
    publish_tags(run, sides, result)
    publish_metrics(sides, judged)
    run.say(summary(result))
    if decision.action == "retrain" and sides.watched:
        log.info("next, retrain on what is labelled:\n%s", "\n".join(retraining(sides.watched)))
    return result


def retraining(watched: Watched) -> list[str]:
    """Return the commands that retrain a model by hand, on the labelled rows of the log."""
    table, name = "outputs/labelled.parquet", watched.model.name
    labelled = f"mlflow run ./drift -e labelled --env-manager local -P output={table} -P {quote(f'model_name={name}')}"
    overrides = {"data": watched.columns.name, "data.file_url": table, "register.model_name": name}
    return [labelled, pipeline_command({**overrides, "data.sha256": None, "data.reference_dataset": "none"})]


def status_of(sides: Sides, settings: Monitoring) -> str:
    rows = len(sides.current.rows)
    if rows == 0:
        return "empty"
    return "too_few_rows" if rows < settings.min_rows else history.JUDGED_STATUS


def publish_report(run: StepRun, sides: Sides, settings: Monitoring) -> Judged:
    """Judge, draw Evidently's page, and put it on the run and beside this file."""
    from drift.compare import evidently_report

    judged = judge(sides, settings)
    if settings.tests == "evidently":
        snapshot, columns = evidently_report.by_evidently(sides)
        judged = judge(sides, settings, columns)
    else:
        snapshot = evidently_report.page_of(sides, judged)
    path = run.folder / history.REPORT
    snapshot.save_html(str(path))
    run.publish_file(path, history.REPORT)
    folder = history.pages_of(model_of(sides))
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / history.REPORT) as part:
        shutil.copyfile(path, part)
    return judged


def decision_of(run: StepRun, sides: Sides, settings: Monitoring, judged: Judged, status: str, key: str) -> Decision:
    now = Observation(
        key=key,
        time=sides.current.end or datetime.now(UTC),
        rows=len(sides.current.rows),
        version=version_of(sides),
        alarms=frozenset(name for name, one in judged.signals.items() if one["alarm"]),
        judged=status == history.JUDGED_STATUS,
    )
    past = history.runs_of(run.client, run.experiment_id, model_of(sides))
    return decide(settings, [history.observation(one) for one in past], now)


def model_of(sides: Sides) -> str:
    return sides.watched.model.name if sides.watched else history.NO_MODEL


def version_of(sides: Sides) -> str:
    return sides.watched.model.version if sides.watched else ""


def described(run: StepRun, sides: Sides, judged: Judged, decision: Decision, status: str, key: str) -> dict[str, Any]:
    """Return drift.json."""
    current = sides.current
    return {
        "run_id": run.run_id,
        "experiment_id": run.experiment_id,
        "model": {"name": model_of(sides), "version": version_of(sides)},
        "reference": sides.reference.address,
        "current": current.address,
        "window": {
            "from": current.start.isoformat() if current.start else None,
            "to": (current.end or datetime.now(UTC)).isoformat(),
            "rows": len(current.rows),
            "labelled": current.labelled,
            "versions": current.versions,
            "future_rows": current.future_rows,
            "key": key,
        },
        "status": status,
        "dataset_drift": bool(judged.signals.get("drift_share", {}).get("alarm", False)),
        "drift_share": judged.drift_share,
        "drifted": [one.as_dict() for one in judged.drifted],
        "columns": [one.as_dict() for one in judged.columns],
        "quality": [fault.as_dict() for fault in judged.faults if fault.alarm],
        "signals": judged.signals,
        "details": judged.details,
        "decision": decision.as_dict(),
        "report": f"runs:/{run.run_id}/{history.REPORT}" if status == history.JUDGED_STATUS else None,
    }


def publish_tags(run: StepRun, sides: Sides, result: dict[str, Any]) -> None:
    window, decision = result["window"], result["decision"]
    names = [one["column"] for one in result["columns"]]
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
            history.ALARMS: ",".join(name for name, one in result["signals"].items() if one["alarm"]),
            history.REASON: decision["reason"],
            history.DECISION: decision["action"],
            **{history.COLUMN + metric_name(name): name for name in names if metric_name(name) != name},
        }
    )


def publish_metrics(sides: Sides, judged: Judged) -> None:
    """Log one value of each series; its time is the end of the window."""
    values: dict[str, float] = {"rows": len(sides.current.rows), "labelled": sides.current.labelled}
    if judged.columns:
        values |= {"drift_share": judged.drift_share, "drifted_columns": len(judged.drifted)}
    for one in judged.columns:
        name = metric_name(one.column)
        values |= {f"drift_score.{name}": one.found.score, f"drifted.{name}": int(one.found.drifted)}
    for name, signal in judged.signals.items():
        values |= {f"signal.{name}": signal["value"], f"alarm.{name}": int(signal["alarm"])}
        values |= {f"{end}.{name}": signal[end] for end in ("lower", "upper") if end in signal}
    if "reference_auc" in judged.details:
        values["reference_auc"] = judged.details["reference_auc"]["value"]
    mlflow.log_metrics(values)


def summary(result: dict[str, Any]) -> str:
    window, decision = result["window"], result["decision"]
    if result["status"] != history.JUDGED_STATUS:
        return f"{result['status']}: {window['rows']:,} rows in the window; nothing to judge"
    count, names = len(result["columns"]), [one["column"] for one in result["drifted"]]
    named = f" ({', '.join(names[:5])}{' ...' if len(names) > 5 else ''})" if names else ""
    return (
        f"{window['rows']:,} rows: {len(names)} of {count} columns drift{named}; "
        f"{decision['action']}: {decision['reason']}{unreadable_in_words(result['details'].get('unreadable', []))}"
    )


def unreadable_in_words(cells: list[dict[str, Any]]) -> str:
    """Name the columns whose values are not finite numbers, with their rows counted from 0."""
    return "".join(
        f"; {one['column']}: {one['rows']:,} {one['kind']} values where numbers are expected (first rows "
        f"{', '.join(map(str, one['first']))})"
        for one in cells
    )


def write_result(result: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text(write_json(result), encoding="utf-8")


if __name__ == "__main__":
    main()

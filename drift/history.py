"""Earlier windows of the drift experiment: history for the policy, and finished runs to reuse."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run

from drift.policy import Action, Observation
from stepkit.paths import ROOT
from stepkit.store import lineage

STEP_NAME = "drift"
KEY = "window_key"
NUMBER = "window_number"
"""Order of processes that compare the same window at the same time."""

FROM, TO, ROWS = "window_from", "window_to", "window_rows"
MODEL_NAME, MODEL_VERSION = "model_name", "model_version"
REFERENCE, WINDOW_ADDRESS = "reference", "window_address"
STATUS, ALARMS, DECISION, REASON = "status", "alarms", "decision", "decision_reason"
APPROVAL = "approval."
"""Prefix of the metric with the approval rate of a protected group."""
COLUMN = "column."
"""Prefix of a tag that holds the name of a column whose metrics need another name."""

JUDGED_STATUS = "ok"
RESULT = "drift.json"

NO_MODEL = "files"
"""Used as the model name when files are compared without a model."""

REPORT = "drift_report.html"
REPORTS = ROOT / "drift" / "evidently_reports"

SECONDS_TO_WAIT = 120.0
"""A comparison takes seconds. If a run has not finished after this time, its process has ended."""

SECONDS_BETWEEN_POLLS = 0.5


def get_page_folder(model_name: str) -> Path:
    """Return the folder for the pages of a model in this checkout."""
    return REPORTS / (f"_{model_name}" if model_name.startswith(".") else model_name)


def fetch_runs(experiment_id: str, model_name: str) -> list[Run]:
    """Return the finished comparisons of a model by end of window; of repeated comparisons, the newest."""
    query = (
        f"tags.{lineage.STEP} = '{STEP_NAME}' and tags.{MODEL_NAME} = '{model_name}' and tags.{DECISION} != '' "
        "and attributes.status = 'FINISHED'"
    )
    runs: Any = mlflow.search_runs([experiment_id], query, output_format="list")
    newest = {
        tuple(run.data.tags.get(name, "") for name in (FROM, TO, MODEL_VERSION, REFERENCE)): run
        for run in sorted(runs, key=lambda run: (run.info.end_time, run.info.run_id))
    }
    return sorted(newest.values(), key=lambda run: run.data.tags[TO])


def to_observation(run: Run) -> Observation:
    """Return a finished comparison as input of the policy."""
    tags = run.data.tags
    action: Action = tags[DECISION]  # type: ignore[assignment]  # written from a Decision
    ended = datetime.fromtimestamp(run.info.end_time / 1000, UTC)
    return Observation(
        key=tags[KEY],
        time=min(datetime.fromisoformat(tags[TO]).astimezone(UTC), ended),  # an older release recorded future ends
        start=datetime.fromisoformat(tags[FROM]).astimezone(UTC) if tags.get(FROM) else None,
        rows=int(tags[ROWS]),
        version=tags[MODEL_VERSION],
        alarms=frozenset(name for name in tags[ALARMS].split(",") if name),
        judged=tags[STATUS] == JUDGED_STATUS,
        action=action,
    )


def find_earlier_run(client: MlflowClient, experiment_id: str, run_id: str, key: str) -> Run | None:
    """Return the finished run of the same window; None if this run is to compare it. Wait for a run in progress.

    Of several processes with the same window, exactly one compares it, in whatever order they run. Each process
    publishes its key, draws a number above all numbers that it sees, and waits for every process with a lower number
    or without a number. Source: Lamport's bakery algorithm, CACM 17 (1974). The start times of MLflow cannot replace
    the numbers, because MLflow takes them before the key is published.
    """
    client.set_tag(run_id, KEY, key)
    numbers = [int(run.data.tags.get(NUMBER, 0)) for run in _fetch_same_window(client, experiment_id, run_id, key)]
    client.set_tag(run_id, NUMBER, 1 + max(numbers, default=0))
    this_run, end = client.get_run(run_id), time.monotonic() + SECONDS_TO_WAIT
    while True:
        other_runs = _fetch_same_window(client, experiment_id, run_id, key)
        for run in other_runs:
            if run.info.status == "FINISHED" and DECISION in run.data.tags:
                return run
        if not any(_is_ahead(run, this_run) for run in other_runs) or time.monotonic() > end:
            return None
        time.sleep(SECONDS_BETWEEN_POLLS)


def _fetch_same_window(client: MlflowClient, experiment_id: str, run_id: str, key: str) -> list[Run]:
    runs = client.search_runs([experiment_id], f"tags.{KEY} = '{key}'", order_by=["attributes.start_time ASC"])
    return [run for run in runs if run.info.run_id != run_id]


def _is_ahead(run: Run, this_run: Run) -> bool:
    """Return True if another run is in progress and comes first; the process of a run that began long ago has ended."""
    if run.info.status != "RUNNING" or this_run.info.start_time - run.info.start_time > SECONDS_TO_WAIT * 1000:
        return False
    return _get_place(run) < _get_place(this_run)


def _get_place(run: Run) -> tuple[int, str]:
    """Return the number of a run, 0 before it has drawn one, and its ID for a tie."""
    return int(run.data.tags.get(NUMBER, 0)), run.info.run_id

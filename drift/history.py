"""Earlier windows of the drift experiment: the history that the policy reads, and runs that need not be repeated."""

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
"""Who is first at a window that several processes want."""

FROM, TO, ROWS = "window_from", "window_to", "window_rows"
MODEL_NAME, MODEL_VERSION = "model_name", "model_version"
REFERENCE, WINDOW_ADDRESS = "reference", "window_address"
STATUS, ALARMS, DECISION, REASON = "status", "alarms", "decision", "decision_reason"
COLUMN = "column."
"""How a tag begins that gives a column's own name where its metrics have another one."""

JUDGED_STATUS = "ok"
RESULT = "drift.json"

NO_MODEL = "files"
"""Stands for the model's name where files are compared without one."""

REPORT = "drift_report.html"
REPORTS = ROOT / "drift" / "evidently_reports"

SECONDS_TO_WAIT = 120.0
"""A comparison takes seconds; a run that is not finished after this has lost its process."""

SECONDS_BETWEEN_LOOKS = 0.5


def get_page_folder(model_name: str) -> Path:
    """Return the folder of this checkout for the pages of a model: each has its own."""
    return REPORTS / (f"_{model_name}" if model_name.startswith(".") else model_name)


def fetch_runs(experiment_id: str, model_name: str) -> list[Run]:
    """Return every finished comparison of a model in an experiment, by the end of its window; a repeated one once."""
    chosen = (
        f"tags.{lineage.STEP} = '{STEP_NAME}' and tags.{MODEL_NAME} = '{model_name}' and tags.{DECISION} != '' "
        "and attributes.status = 'FINISHED'"
    )
    runs: Any = mlflow.search_runs([experiment_id], chosen, output_format="list")
    newest = {
        tuple(run.data.tags.get(name, "") for name in (FROM, TO, MODEL_VERSION, REFERENCE)): run
        for run in sorted(runs, key=lambda run: (run.info.end_time, run.info.run_id))
    }
    return sorted(newest.values(), key=lambda run: run.data.tags[TO])


def to_observation(run: Run) -> Observation:
    """What the policy wants to know of a finished comparison."""
    tags = run.data.tags
    action: Action = tags[DECISION]  # type: ignore[assignment]  # written from a Decision
    return Observation(
        key=tags[KEY],
        time=datetime.fromisoformat(tags[TO]).astimezone(UTC),
        rows=int(tags[ROWS]),
        version=tags[MODEL_VERSION],
        alarms=frozenset(name for name in tags[ALARMS].split(",") if name),
        judged=tags[STATUS] == JUDGED_STATUS,
        action=action,
    )


def find_earlier_run(client: MlflowClient, experiment_id: str, run_id: str, key: str) -> Run | None:
    """Return the finished run of the same window, waiting for one that runs already; None if this one is the first.

    Of any number of processes with one window exactly one computes it, however they overtake each other: each shows
    its key, then draws a number above those it sees, and waits for who has a lower one or has not drawn yet.
    Source: Lamport's bakery, CACM 17 (1974); the times of MLflow will not do, being taken before the key is shown.
    """
    client.set_tag(run_id, KEY, key)
    seen = [int(run.data.tags.get(NUMBER, 0)) for run in _fetch_same_window(client, experiment_id, run_id, key)]
    client.set_tag(run_id, NUMBER, 1 + max(seen, default=0))
    own, end = client.get_run(run_id), time.monotonic() + SECONDS_TO_WAIT
    while True:
        others = _fetch_same_window(client, experiment_id, run_id, key)
        for run in others:
            if run.info.status == "FINISHED" and DECISION in run.data.tags:
                return run
        if not any(_is_ahead(run, own) for run in others) or time.monotonic() > end:
            return None
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _fetch_same_window(client: MlflowClient, experiment_id: str, run_id: str, key: str) -> list[Run]:
    runs = client.search_runs([experiment_id], f"tags.{KEY} = '{key}'", order_by=["attributes.start_time ASC"])
    return [run for run in runs if run.info.run_id != run_id]


def _is_ahead(run: Run, own: Run) -> bool:
    """Whether another run is at work and goes first; one that began long ago has lost its process."""
    if run.info.status != "RUNNING" or own.info.start_time - run.info.start_time > SECONDS_TO_WAIT * 1000:
        return False
    return _get_place(run) < _get_place(own)


def _get_place(run: Run) -> tuple[int, str]:
    """Its number, 0 before it has drawn one; its id, where two have drawn the same."""
    return int(run.data.tags.get(NUMBER, 0)), run.info.run_id

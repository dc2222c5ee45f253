"""Acts of `make loop`, in order. Each performs one action, verifies the outcome and returns a line about it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import requests
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from loop.airflow_client import Scheduler
from loop.polling import StoryFailed, wait_for
from loop.processes import Processes
from loop.webhook_receiver import Receiver
from stepkit.store.champion import find_champion
from stepkit.store.lineage import BECAUSE

MODEL = "credit_default"
MONITORING, RETRAINING = "drift_monitoring", "retraining"
DRIFT = "limits"
"""The simulated drift: credit limits are 20 % higher (simulate/drifts.py)."""

ROWS = 1500
FIRST_FOREST = "model=random_forest random_forest_pipeline.random_forest.n_estimators=1 evaluate.gate.baselines=null"
"""The first model: a forest of a single tree. Retraining on the 3,000 rows of two windows can then pass the gate, which
requires a better model. A single tree is worse than a logistic regression, so these rules are off for it."""

MLFLOW = (sys.executable, "-m", "mlflow")
LOCAL = ("--env-manager", "local")


def verify(condition: bool, message: str) -> None:
    """Raise StoryFailed with the message unless the condition is true."""
    if not condition:
        raise StoryFailed(message)


@dataclass
class Stage:
    """State of the loop: processes, URLs of the servers, and the windows so far."""

    processes: Processes
    receiver: Receiver
    scorer: str
    airflow: str
    client: MlflowClient
    admin: Scheduler = field(init=False)
    windows: list[tuple[str, str]] = field(default_factory=list)
    drift_run_id: str = ""

    def get_champion(self) -> ModelVersion:
        """Return the champion, or raise StoryFailed."""
        version = find_champion(self.client, MODEL)
        if version is None:
            raise StoryFailed(f"{MODEL}: no champion")
        return version


def fetch(url: str) -> Any:
    """Return the JSON or text of the response from a URL, or None without a response."""
    try:
        response = requests.get(url, timeout=5)
        return response.json() if "json" in response.headers.get("Content-Type", "") else response.text
    except requests.RequestException:
        return None


def fetch_served_version(stage: Stage) -> str:
    """Return the model version of the scorer, or ""."""
    health = fetch(f"{stage.scorer}/health")
    return str(health["model"]["version"]) if health and health["model"] else ""


def train(stage: Stage) -> str:
    """Train the first champion."""
    stage.processes.run("pipeline", *MLFLOW, "run", ".", "-P", f"hydra_options={FIRST_FOREST}", *LOCAL)
    version = stage.get_champion()
    verify(str(version.version) == "1", f"champion: version {version.version}, expected 1")
    return f"{MODEL} version 1 is champion, test ROC AUC {version.tags['test_auc']}"


def serve(stage: Stage) -> str:
    """Start the scorer."""
    port = stage.scorer.rsplit(":", 1)[1]
    stage.processes.start(
        "scorer", *MLFLOW, "run", "./serve", "-P", f"port={port}", "-P", "poll_seconds=1", *LOCAL
    )  # fmt: skip
    wait_for(lambda: stage.processes.verify_running() and fetch_served_version(stage) == "1", "start of the scorer")
    return f"{stage.scorer} serves version 1"


def send_traffic(stage: Stage, drift: str, labels: bool = False) -> str:
    """Send a window of traffic to the scorer, optionally with labels; record its start and end."""
    start, seed = _format_now(), len(stage.windows) + 1
    parameters = {"url": stage.scorer, "rows": ROWS, "drift": drift, "seed": seed, "labels": str(labels).lower()}
    words = [word for key, value in parameters.items() for word in ("-P", f"{key}={value}")]
    stage.processes.run("traffic", *MLFLOW, "run", "./simulate", "-e", "traffic", *words, *LOCAL)
    stage.windows.append((start, _format_now()))
    return f"sent {ROWS:,} rows, drift={drift}{', and their labels' if labels else ''}"


def _format_now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def wait_for_airflow(stage: Stage) -> str:
    """Wait until Airflow is ready, log in, and unpause the monitoring."""
    log = stage.processes.get_log_path("airflow")

    def is_ready() -> bool:
        return stage.processes.verify_running() and "password" in log.read_text()

    wait_for(is_ready, "start of Airflow")
    login = dict(re.findall(r"^(user|password) +(\S+)$", log.read_text(), re.MULTILINE))
    stage.admin = Scheduler(stage.airflow, login["user"], login["password"])
    wait_for(lambda: stage.admin.has_dags(MONITORING, RETRAINING), "reading of both DAGs")
    stage.admin.set_paused(MONITORING, False)
    return f"{stage.airflow} has {MONITORING} and {RETRAINING}"


def monitor_window(stage: Stage, action: str) -> dict[str, Any]:
    """Run the monitoring DAG for the newest window and verify the decision; return the result of task `report`."""
    start, end = stage.windows[-1]
    run = stage.admin.trigger(MONITORING, window_from=start, window_to=end)
    verify_success(stage, MONITORING, run)
    value = stage.admin.get_value(MONITORING, run, "report")
    result = dict(json.loads(value) if isinstance(value, str) else value)
    verify(
        result["decision"]["action"] == action, f"{describe_result(result)}, expected {action}: {result['decision']}"
    )
    return result


def verify_success(stage: Stage, dag: str, run: str) -> None:
    """Wait until a DAG run ends; raise StoryFailed unless it succeeded."""
    state = stage.admin.wait_for_end(dag, run)
    verify(state == "success", f"{dag} {run}: {state}. Tasks: {stage.admin.get_task_states(dag, run)}")


def describe_result(result: dict[str, Any]) -> str:
    """Return the drifted columns and the decision."""
    names = ", ".join(column["column"] for column in result["drifted"]) or "none"
    return f"drifted columns: {names}; decision: {result['decision']['action']}"


def verify_no_alert(stage: Stage) -> str:
    """Verify that traffic without drift sends no alert."""
    result = monitor_window(stage, "nothing")
    verify(stage.receiver.received == [], f"alert without drift: {stage.receiver.list_titles()}")
    return f"{describe_result(result)}; no alert sent"


def verify_alert(stage: Stage) -> str:
    """Verify that the first drifted window alerts."""
    result = monitor_window(stage, "alert")
    wait_for(lambda: bool(stage.receiver.received), "delivery of the alert")
    message = stage.receiver.received[-1]
    verify(result["run_id"] in message["message"], f"alert: run {result['run_id']} is missing in {message}")
    return f"{describe_result(result)}; received: {message['title']}"


def verify_confirmation(stage: Stage) -> str:
    """Verify that the second drifted window requests a retraining."""
    result = monitor_window(stage, "retrain")
    stage.drift_run_id = result["run_id"]
    events = stage.admin.list_asset_events()
    verify([event["extra"].get("drift_run_id") for event in events] == [result["run_id"]], f"asset events: {events}")
    return f"{result['decision']['reason']}; asset event sent"


def wait_for_retraining(stage: Stage) -> str:
    """Wait for the retraining, and verify that version 2 names its cause."""
    wait_for(lambda: bool(stage.admin.list_runs(RETRAINING)), f"start of {RETRAINING}")
    (run,) = stage.admin.list_runs(RETRAINING)
    verify(run["run_type"] == "asset_triggered", f"{RETRAINING}: run type {run['run_type']}, expected asset_triggered")
    verify_success(stage, RETRAINING, run["dag_run_id"])
    version = stage.client.get_model_version(MODEL, "2")
    cause = version.tags.get(f"{BECAUSE}drift_run_id")
    verify(cause == stage.drift_run_id, f"version 2: drift run {cause}, expected {stage.drift_run_id}")
    return f"version 2, reason: {version.tags[f'{BECAUSE}reason']}"


def verify_promotion(stage: Stage) -> str:
    """Verify that version 2 passed the gate and became champion."""
    version = stage.client.get_model_version(MODEL, "2")
    verify(str(stage.get_champion().version) == "2", f"version 2: not champion. {version.description}")
    titles = stage.receiver.list_titles()
    verify(any("new champion" in title for title in titles), f"no message about the new champion: {titles}")
    return f"verdict {version.tags['verdict']}, test ROC AUC {version.tags['test_auc']}: version 2 is champion"


def wait_for_swap(stage: Stage) -> str:
    """Wait until the scorer serves version 2."""
    wait_for(lambda: fetch_served_version(stage) == "2", "swap of the scorer to version 2")
    return f"{stage.scorer} serves version 2"


def verify_all_clear(stage: Stage) -> str:
    """Verify that the new champion clears the alarm."""
    result = monitor_window(stage, "nothing")
    verify(result["model"]["version"] == "2", f"monitored version: {result['model']['version']}, expected 2")
    wait_for(lambda: "Drift cleared" in stage.receiver.list_titles()[-1], "delivery of the all-clear")
    return f"{describe_result(result)}; received: {stage.receiver.list_titles()[-1]}"


ACTS: tuple[tuple[str, Callable[[Stage], str]], ...] = (
    ("train", train),
    ("serve", serve),
    ("traffic, no drift", partial(send_traffic, drift="none")),
    ("start Airflow", wait_for_airflow),
    ("monitor: no drift", verify_no_alert),
    ("traffic, drift", partial(send_traffic, drift=DRIFT, labels=True)),
    ("monitor: alert", verify_alert),
    ("traffic, drift", partial(send_traffic, drift=DRIFT, labels=True)),
    ("monitor: retrain", verify_confirmation),
    ("retrain", wait_for_retraining),
    ("gate", verify_promotion),
    ("swap scorer", wait_for_swap),
    ("traffic, drift", partial(send_traffic, drift=DRIFT)),
    ("monitor: all-clear", verify_all_clear),
)

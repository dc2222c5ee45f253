"""The acts of `make loop`, in order. Each does something and returns, in one line, what was seen to happen."""

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
"""What changes in the story: limits a fifth higher (simulate/drifts.py)."""

ROWS = 1500
FIRST_FOREST = "random_forest_pipeline.random_forest.n_estimators=1"
"""The first model is a weak one, a single tree: the gate lets another through only if it is shown to be better, and
the retraining learns from the 3,000 clients of two windows only."""

MLFLOW = (sys.executable, "-m", "mlflow")
LOCAL = ("--env-manager", "local")


def verify(what: bool, otherwise: str) -> None:
    if not what:
        raise StoryFailed(otherwise)


@dataclass
class Stage:
    """Where the story plays: the servers' addresses, the processes behind them, what was noted on the way."""

    processes: Processes
    receiver: Receiver
    scorer: str
    airflow: str
    client: MlflowClient
    admin: Scheduler = field(init=False)
    windows: list[tuple[str, str]] = field(default_factory=list)
    drift_run_id: str = ""

    def get_champion(self) -> ModelVersion:
        version = find_champion(self.client, MODEL)
        if version is None:
            raise StoryFailed(f"{MODEL} has no champion")
        return version


def fetch(url: str) -> Any:
    """Return the JSON or text that an address answers, None as long as it does not."""
    try:
        answer = requests.get(url, timeout=5)
        return answer.json() if "json" in answer.headers.get("Content-Type", "") else answer.text
    except requests.RequestException:
        return None


def fetch_served_version(stage: Stage) -> str:
    health = fetch(f"{stage.scorer}/health")
    return str(health["model"]["version"]) if health and health["model"] else ""


def train(stage: Stage) -> str:
    stage.processes.run("pipeline", *MLFLOW, "run", ".", "-P", f"hydra_options={FIRST_FOREST}", *LOCAL)
    version = stage.get_champion()
    verify(str(version.version) == "1", f"version {version.version} is champion, not 1")
    return f"{MODEL} version 1 is champion, test AUC {version.tags['test_auc']}"


def serve(stage: Stage) -> str:
    port = stage.scorer.rsplit(":", 1)[1]
    stage.processes.start(
        "scorer", *MLFLOW, "run", "./serve", "-P", f"port={port}", "-P", "poll_seconds=1", *LOCAL
    )  # fmt: skip
    wait_for(lambda: stage.processes.verify_running() and fetch_served_version(stage) == "1", "the scorer")
    return f"{stage.scorer} answers with version 1"


def send_traffic(stage: Stage, drift: str, labels: bool = False) -> str:
    """Send a window of traffic to the scorer, perhaps the true labels too, and note when it began and ended."""
    began, seed = _format_now(), len(stage.windows) + 1
    given = {"url": stage.scorer, "rows": ROWS, "drift": drift, "seed": seed, "labels": str(labels).lower()}
    words = [word for key, value in given.items() for word in ("-P", f"{key}={value}")]
    stage.processes.run("traffic", *MLFLOW, "run", "./simulate", "-e", "traffic", *words, *LOCAL)
    stage.windows.append((began, _format_now()))
    what = "as in training" if drift == "none" else f"drift: {drift}"
    return f"{ROWS:,} clients asked, {what}{', and their labels came' if labels else ''}"


def _format_now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def wait_for_airflow(stage: Stage) -> str:
    """Wait for Airflow, which has been starting since the beginning; log in, and let the monitoring run."""
    said = stage.processes.get_log_path("airflow")

    def is_up() -> bool:
        return stage.processes.verify_running() and "password" in said.read_text()

    wait_for(is_up, "Airflow")
    found = dict(re.findall(r"^(user|password) +(\S+)$", said.read_text(), re.MULTILINE))
    stage.admin = Scheduler(stage.airflow, found["user"], found["password"])
    wait_for(lambda: stage.admin.has_dags(MONITORING, RETRAINING), "both DAGs")
    stage.admin.set_paused(MONITORING, False)
    return f"{stage.airflow} knows {MONITORING} and {RETRAINING}"


def monitor_window(stage: Stage, action: str) -> dict[str, Any]:
    """Let Airflow report on the newest window, with this decision; return the result of the task `report`."""
    began, ended = stage.windows[-1]
    run = stage.admin.trigger(MONITORING, window_from=began, window_to=ended)
    verify_success(stage, MONITORING, run)
    value = stage.admin.get_value(MONITORING, run, "report")
    result = dict(json.loads(value) if isinstance(value, str) else value)
    verify(result["decision"]["action"] == action, f"{describe_result(result)}, not {action}: {result['decision']}")
    return result


def verify_success(stage: Stage, dag: str, run: str) -> None:
    state = stage.admin.wait_for_end(dag, run)
    verify(state == "success", f"{dag} {run} ended as {state}: {stage.admin.get_task_states(dag, run)}")


def describe_result(result: dict[str, Any]) -> str:
    named = ", ".join(one["column"] for one in result["drifted"]) or "no column"
    return f"{named} drifted; {result['decision']['action']}"


def verify_no_alert(stage: Stage) -> str:
    result = monitor_window(stage, "nothing")
    verify(stage.receiver.received == [], f"an alert about honest traffic: {stage.receiver.list_titles()}")
    return f"{describe_result(result)}; nobody is told"


def verify_alert(stage: Stage) -> str:
    result = monitor_window(stage, "alert")
    wait_for(lambda: bool(stage.receiver.received), "the alert")
    message = stage.receiver.received[-1]
    verify(result["run_id"] in message["message"], f"the alert does not name run {result['run_id']}: {message}")
    return f"{describe_result(result)}; received: {message['title']}"


def verify_confirmation(stage: Stage) -> str:
    result = monitor_window(stage, "retrain")
    stage.drift_run_id = result["run_id"]
    events = stage.admin.list_asset_events()
    verify([event["extra"].get("drift_run_id") for event in events] == [result["run_id"]], f"asset events: {events}")
    return f"{result['decision']['reason']}; asset event sent"


def wait_for_retraining(stage: Stage) -> str:
    wait_for(lambda: bool(stage.admin.runs(RETRAINING)), f"a run of {RETRAINING}")
    (run,) = stage.admin.runs(RETRAINING)
    verify(run["run_type"] == "asset_triggered", f"{RETRAINING} was started by {run['run_type']}")
    verify_success(stage, RETRAINING, run["dag_run_id"])
    version = stage.client.get_model_version(MODEL, "2")
    asked = version.tags.get(f"{BECAUSE}drift_run_id")
    verify(asked == stage.drift_run_id, f"version 2 says that run {asked} asked for it, not {stage.drift_run_id}")
    return f"version 2, because {version.tags[f'{BECAUSE}reason']}"


def verify_promotion(stage: Stage) -> str:
    version = stage.client.get_model_version(MODEL, "2")
    verify(str(stage.get_champion().version) == "2", f"version 2 did not pass: {version.description}")
    verify(
        any("new champion" in title for title in stage.receiver.list_titles()), f"told: {stage.receiver.list_titles()}"
    )
    return f"verdict {version.tags['verdict']}, test AUC {version.tags['test_auc']}: version 2 is champion"


def wait_for_swap(stage: Stage) -> str:
    wait_for(lambda: fetch_served_version(stage) == "2", "version 2 at the scorer")
    return f"{stage.scorer} answers with version 2"


def verify_all_clear(stage: Stage) -> str:
    result = monitor_window(stage, "nothing")
    verify(result["model"]["version"] == "2", f"compared with version {result['model']['version']}")
    wait_for(lambda: "No more drift" in stage.receiver.list_titles()[-1], "the message that all is well")
    return f"{describe_result(result)}; received: {stage.receiver.list_titles()[-1]}"


ACTS: tuple[tuple[str, Callable[[Stage], str]], ...] = (
    ("train", train),
    ("serve", serve),
    ("honest traffic", partial(send_traffic, drift="none")),
    ("Airflow is up", wait_for_airflow),
    ("watch: quiet", verify_no_alert),
    ("drifted traffic", partial(send_traffic, drift=DRIFT, labels=True)),
    ("watch: alarm", verify_alert),
    ("drifted traffic", partial(send_traffic, drift=DRIFT, labels=True)),
    ("watch: confirmed", verify_confirmation),
    ("retraining", wait_for_retraining),
    ("gate", verify_promotion),
    ("scorer swaps", wait_for_swap),
    ("drifted traffic", partial(send_traffic, drift=DRIFT)),
    ("watch: quiet", verify_all_clear),
)

"""The acts of `make loop`, in order. Each does something and returns, in one line, what was seen to happen."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from loop.airflow_client import Scheduler
from loop.polling import PATIENCE, WaitedInVain, wait_for
from loop.processes import Processes
from loop.webhook_receiver import Receiver
from stepkit.store.champion import champion_of
from stepkit.store.lineage import BECAUSE

MODEL = "credit_default"
MONITORING, RETRAINING = "drift_monitoring", "retraining"
DRIFT = "limits"
"""What changes in the story: limits a fifth higher (simulate/drifts.py)."""

ROWS = 1500
FIRST_FOREST = "random_forest_pipeline.random_forest.n_estimators=1"
"""The first model is a weak one, a single tree: the gate lets another through only if it is shown to be better, and
what the retraining has to learn from are the 3,000 clients of two windows."""


class NotAsTold(Exception):
    """Something else happened than the story says."""


def expect(what: bool, otherwise: str) -> None:
    if not what:
        raise NotAsTold(otherwise)


@dataclass
class Stage:
    """Where the story plays: the servers' addresses, the processes behind them, what was noted on the way."""

    folder: Path
    processes: Processes
    receiver: Receiver
    tracking: str
    scorer: str
    airflow: str
    client: MlflowClient
    scheduler: Scheduler | None = None
    windows: list[tuple[str, str]] = field(default_factory=list)
    drift_run_id: str = ""
    seed: int = 0

    @property
    def python(self) -> tuple[str, ...]:
        return (self.processes.python, "-m", "mlflow")

    def mlflow_run(self, name: str, *words: str, **parameters: Any) -> str:
        given = [word for key, value in parameters.items() for word in ("-P", f"{key}={value}")]
        return self.processes.run(name, *self.python, "run", *words, *given, "--env-manager", "local")

    def champion(self) -> ModelVersion:
        found = champion_of(self.client, MODEL)
        expect(found is not None, f"{MODEL} has no champion")
        assert found is not None
        return found

    @property
    def admin(self) -> Scheduler:
        assert self.scheduler is not None
        return self.scheduler


def train(stage: Stage) -> str:
    stage.mlflow_run("pipeline", ".", hydra_options=FIRST_FOREST)
    version = stage.champion()
    expect(str(version.version) == "1", f"version {version.version} is champion, not 1")
    return f"{MODEL} version 1 is champion, test AUC {version.tags['test_auc']}"


def serve(stage: Stage) -> str:
    port = stage.scorer.rsplit(":", 1)[1]
    stage.processes.start(
        "scorer", *stage.python, "run", "./serve", "-P", f"port={port}", "-P", "poll_seconds=1",
        "--env-manager", "local",
    )  # fmt: skip
    wait_for(lambda: stage.processes.all_run() and _version_served(stage) == "1", "the scorer", PATIENCE)
    return f"{stage.scorer} answers with version 1"


def _version_served(stage: Stage) -> str:
    try:
        model = requests.get(f"{stage.scorer}/health", timeout=5).json()["model"]
    except requests.RequestException:
        return ""
    return str(model["version"]) if model else ""


def ask(stage: Stage, drift: str, labels: bool = False) -> str:
    """Send a window of traffic to the scorer, perhaps the true labels too, and note when it began and ended."""
    stage.seed += 1
    began = _now()
    stage.mlflow_run(
        "traffic", "./simulate", "-e", "traffic",
        url=stage.scorer, rows=ROWS, drift=drift, seed=stage.seed, labels=str(labels).lower(),
    )  # fmt: skip
    stage.windows.append((began, _now()))
    what = "as in training" if drift == "none" else f"drift: {drift}"
    return f"{ROWS:,} clients asked, {what}{', and their labels came' if labels else ''}"


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def honest_traffic(stage: Stage) -> str:
    return ask(stage, "none")


def drifted_traffic(stage: Stage) -> str:
    return ask(stage, DRIFT)


def drifted_traffic_with_labels(stage: Stage) -> str:
    return ask(stage, DRIFT, labels=True)


def airflow_is_up(stage: Stage) -> str:
    """Wait for Airflow, which has been starting since the beginning; log in, and let the monitoring run."""
    said = stage.processes.log_of("airflow")

    def is_up() -> bool:
        return stage.processes.all_run() and "password" in said.read_text()

    wait_for(is_up, "Airflow", PATIENCE)
    found = dict(re.findall(r"^(user|password) +(\S+)$", said.read_text(), re.MULTILINE))
    stage.scheduler = Scheduler(stage.airflow, found["user"], found["password"])
    wait_for(lambda: stage.admin.knows(MONITORING, RETRAINING), "both DAGs", PATIENCE)
    stage.admin.unpause(MONITORING)
    return f"{stage.airflow} knows {MONITORING} and {RETRAINING}"


def watch(stage: Stage) -> dict[str, Any]:
    """Let Airflow report on the newest window; return the result that the task `report` returned."""
    began, ended = stage.windows[-1]
    run = stage.admin.trigger(MONITORING, window_from=began, window_to=ended)
    state = stage.admin.finished(MONITORING, run)
    expect(state == "success", f"{MONITORING} {run} ended as {state}: {stage.admin.states(MONITORING, run)}")
    result = stage.admin.value(MONITORING, run, "report")
    return dict(json.loads(result) if isinstance(result, str) else result)


def _told(result: dict[str, Any]) -> str:
    named = ", ".join(one["column"] for one in result["drifted"]) or "no column"
    return f"{named} drifted; {result['decision']['action']}"


def quiet_at_first(stage: Stage) -> str:
    result = watch(stage)
    expect(result["decision"]["action"] == "nothing", f"an alarm about honest traffic: {_told(result)}")
    expect(stage.receiver.received == [], f"an alert about honest traffic: {stage.receiver.titles()}")
    return f"{_told(result)}; nobody is told"


def alarm(stage: Stage) -> str:
    result = watch(stage)
    expect(result["decision"]["action"] == "alert", f"no alert about drifted traffic: {_told(result)}")
    wait_for(lambda: bool(stage.receiver.received), "the alert", PATIENCE)
    message = stage.receiver.received[-1]
    expect(result["run_id"] in message["message"], f"the alert does not name run {result['run_id']}: {message}")
    return f"{_told(result)}; received: {message['title']}"


def confirmed(stage: Stage) -> str:
    result = watch(stage)
    expect(result["decision"]["action"] == "retrain", f"no retraining: {result['decision']}")
    stage.drift_run_id = result["run_id"]
    events = stage.admin.asset_events()
    expect([event["extra"].get("drift_run_id") for event in events] == [result["run_id"]], f"asset events: {events}")
    return f"{result['decision']['reason']}; asset event sent"


def retrained(stage: Stage) -> str:
    wait_for(lambda: bool(stage.admin.runs(RETRAINING)), f"a run of {RETRAINING}", PATIENCE)
    (run,) = stage.admin.runs(RETRAINING)
    expect(run["run_type"] == "asset_triggered", f"{RETRAINING} was started by {run['run_type']}")
    state = stage.admin.finished(RETRAINING, run["dag_run_id"])
    expect(state == "success", f"{RETRAINING} ended as {state}: {stage.admin.states(RETRAINING, run['dag_run_id'])}")
    version = stage.client.get_model_version(MODEL, "2")
    asked = version.tags.get(f"{BECAUSE}drift_run_id")
    expect(asked == stage.drift_run_id, f"version 2 says that run {asked} asked for it, not {stage.drift_run_id}")
    return f"version 2, because {version.tags[f'{BECAUSE}reason']}"


def passed_the_gate(stage: Stage) -> str:
    version = stage.client.get_model_version(MODEL, "2")
    expect(str(stage.champion().version) == "2", f"version 2 did not pass: {version.description}")
    expect(any("new champion" in title for title in stage.receiver.titles()), f"told: {stage.receiver.titles()}")
    return f"verdict {version.tags['verdict']}, test AUC {version.tags['test_auc']}: version 2 is champion"


def swapped(stage: Stage) -> str:
    wait_for(lambda: _version_served(stage) == "2", "version 2 at the scorer", PATIENCE)
    return f"{stage.scorer} answers with version 2"


def quiet_again(stage: Stage) -> str:
    result = watch(stage)
    expect(result["model"]["version"] == "2", f"compared with version {result['model']['version']}")
    expect(result["decision"]["action"] == "nothing", f"an alarm against the new reference: {_told(result)}")
    wait_for(lambda: "No more drift" in stage.receiver.titles()[-1], "the message that all is well", PATIENCE)
    return f"{_told(result)}; received: {stage.receiver.titles()[-1]}"


ACTS: tuple[tuple[str, Callable[[Stage], str]], ...] = (
    ("train", train),
    ("serve", serve),
    ("honest traffic", honest_traffic),
    ("Airflow is up", airflow_is_up),
    ("watch: quiet", quiet_at_first),
    ("drifted traffic", drifted_traffic_with_labels),
    ("watch: alarm", alarm),
    ("drifted traffic", drifted_traffic_with_labels),
    ("watch: confirmed", confirmed),
    ("retraining", retrained),
    ("gate", passed_the_gate),
    ("scorer swaps", swapped),
    ("drifted traffic", drifted_traffic),
    ("watch: quiet", quiet_again),
)

__all__ = ["ACTS", "NotAsTold", "Stage", "WaitedInVain"]

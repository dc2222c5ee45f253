"""Both DAGs in a real Airflow, on the prediction log of a real scorer: reports, alerts, retraining and failures."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from requests import HTTPError

from loop.airflow_client import Scheduler
from loop.webhook_receiver import Receiver
from simulate.drifts import simulate_traffic
from simulate.traffic import send_traffic
from stepkit.processes import find_free_port
from tests.conftest import run_command
from tests.support.airflow import PATIENCE, Airflow
from tests.support.pipelines import make_small_forest, write_small_table
from tests.support.scoring_servers import make_log_url, start_scorer
from tests.support.servers import wait_until

MODEL = "credit_default"
ROWS = {"none": 400, "limits": 1100}
"""Rows of each window by drift; the rows of the second window get labels."""

RETRAIN_AT_ONCE = {"confirm": 1, "of_windows": 1, "cooldown_hours": 0}


@dataclass
class Deployment:
    """A champion, a prediction log with two windows, a receiver of alerts, and an Airflow that uses them."""

    airflow: Airflow
    receiver: Receiver
    client: MlflowClient
    windows: dict[str, dict[str, Any]]

    def list_runs(self, name: str, query: str = "") -> list[Run]:
        stored = self.client.get_experiment_by_name(name)
        assert stored is not None
        return list(self.client.search_runs([stored.experiment_id], query, order_by=["attributes.start_time ASC"]))

    def list_reports(self, window: str) -> list[Run]:
        """Return the finished drift runs that compared a window, without repetitions."""
        start = datetime.fromisoformat(self.windows[window]["window_from"]).isoformat()
        runs = self.list_runs("drift", "attributes.status = 'FINISHED'")
        return [run for run in runs if run.data.tags.get("window_from") == start and "same_as" not in run.data.tags]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("deployment")
    store = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=store)
    for name in ("drift", "training"):
        client.create_experiment(name, artifact_location=(folder / "artifacts").as_uri())
    options = " ".join(["main.experiment_name=training", *make_small_forest()])
    table = write_small_table(folder, rows=3000)
    with Receiver() as receiver:
        training = run_command(
            "python", "main.py", f"data.file_url={table}", *options.split(), MLFLOW_TRACKING_URI=store
        )
        assert training.returncode == 0, training.stderr
        windows = send_windows(folder, store)
        airflow = Airflow(
            tmp_path_factory.mktemp("airflow"),
            MLFLOW_TRACKING_URI=store,
            PREDICTION_LOG_URL=make_log_url(folder),
            AIRFLOW_CONN_DRIFT_ALERTS=json.dumps({"conn_type": "generic", "password": receiver.address}),
            DRIFT_ALERTS_JOURNAL=f"sqlite:///{folder / 'alerts.db'}",
            DRIFT_RETRIES="0",
            AIRFLOW_VAR_PIPELINE_OPTIONS=options,
            AIRFLOW_VAR_LABELLED_FOLDER=str(folder),
            AIRFLOW_VAR_LABELLED_ROWS=str(ROWS["limits"]),
        )
        migration = airflow.run("db", "migrate")
        assert migration.returncode == 0, migration.stderr
        try:
            yield Deployment(airflow, receiver, client, windows)
        finally:
            airflow.end()


def send_windows(folder: Path, store: str) -> dict[str, dict[str, Any]]:
    """Send a window without drift and one with higher limits to a scorer; return their times."""
    windows = {}
    with start_scorer(folder, MODEL, env={"MLFLOW_TRACKING_URI": store}) as server:
        for seed, (drift, rows) in enumerate(ROWS.items(), start=1):
            start = datetime.now(UTC).isoformat()
            send_traffic(server.url, simulate_traffic(rows, seed, drift), batch=100, labels=drift == "limits")
            windows[drift] = {"window_from": start, "window_to": datetime.now(UTC).isoformat()}
    return windows


def format_output(ended: subprocess.CompletedProcess[str]) -> str:
    return f"{ended.stdout[-6000:]}\n{ended.stderr[-3000:]}"


def test_a_drifted_window_alerts_and_requests_a_retraining_once_even_if_repeated(deployment: Deployment) -> None:
    conf = {**deployment.windows["limits"], "options": RETRAIN_AT_ONCE}
    for _ in range(2):
        ended = deployment.airflow.test("drift_monitoring", conf)
        assert ended.returncode == 0, format_output(ended)
    (report,) = deployment.list_reports("limits")
    assert deployment.receiver.list_titles() == [f"Drift: {MODEL} version 1, retraining requested"]
    assert report.info.run_id in deployment.receiver.received[0]["message"]
    assert "LIMIT_BAL" in deployment.receiver.received[0]["message"]
    (extra,) = [json.loads(text) for (text,) in deployment.airflow.rows("select extra from asset_event")]
    assert extra["drift_run_id"] == report.info.run_id
    assert extra["reason"] == report.data.tags["decision_reason"]


def test_a_window_without_drift_needs_nothing(deployment: Deployment) -> None:
    sent = len(deployment.receiver.received)
    ended = deployment.airflow.test("drift_monitoring", {**deployment.windows["none"], "options": RETRAIN_AT_ONCE})
    assert ended.returncode == 0, format_output(ended)
    (report,) = deployment.list_reports("none")
    assert report.data.tags["decision"] == "nothing"
    assert len(deployment.receiver.received) == sent


def test_run_and_version_of_a_retraining_name_the_reason(deployment: Deployment) -> None:
    ended = deployment.airflow.test("retraining", {"reason": 'it\'s 5 % worse, says "Ann"; a=b'})
    assert ended.returncode == 0, format_output(ended)
    version = deployment.client.get_model_version(MODEL, "2")
    assert version.tags["because.reason"] == 'it\'s 5 % worse, says "Ann"; a=b'
    pipeline = deployment.client.get_run(version.tags["pipeline_run_id"])
    assert pipeline.data.tags["because.reason"] == version.tags["because.reason"]
    assert version.tags["data_source"].endswith(".parquet")
    assert "version 2" in deployment.receiver.list_titles()[-1]
    assert deployment.receiver.list_titles()[-1].startswith("Retrained")


def test_a_failure_of_the_monitoring_alerts_and_its_end_sends_an_all_clear(deployment: Deployment) -> None:
    nowhere = f"http://127.0.0.1:{find_free_port()}"
    down = {"MLFLOW_TRACKING_URI": nowhere, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    ended = deployment.airflow.test("drift_monitoring", deployment.windows["none"], **down)
    assert ended.returncode != 0
    assert deployment.receiver.list_titles()[-1] == "drift_monitoring: task report failed"
    assert "Connection refused" in deployment.receiver.received[-1]["message"]
    ended = deployment.airflow.test("drift_monitoring", deployment.windows["none"])
    assert ended.returncode == 0, format_output(ended)
    assert "drift_monitoring: recovered" in deployment.receiver.list_titles()[-2:]


@pytest.fixture(scope="module")
def api(deployment: Deployment) -> Scheduler:
    """Airflow's API, with a schedule and short time limits for lost heartbeats.

    With shorter limits, a scheduler on a busy machine considers itself lost and its running tasks orphaned.
    """
    deployment.airflow.env |= {
        "DRIFT_RETRIES": "2",
        "DRIFT_RETRY_SECONDS": "1",
        "DRIFT_SCHEDULE": "0 0 * * *",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "45",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "2",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "45",
    }
    ended = deployment.airflow.run("dags", "reserialize")
    assert ended.returncode == 0, format_output(ended)
    scheduler = deployment.airflow.api()
    # The asset event of the first test waits for a scheduler, and would trigger a retraining.
    scheduler.set_paused("retraining", True)
    return scheduler


def test_a_killed_airflow_finishes_the_task_after_a_restart(deployment: Deployment, api: Scheduler) -> None:
    airflow, before, sent = deployment.airflow, deployment.list_reports("none"), len(deployment.receiver.received)
    # Another setting makes another comparison, which no run has finished yet.
    run = api.trigger("drift_monitoring", **deployment.windows["none"], options={"min_rows": 100})
    api.set_paused("drift_monitoring", False)
    airflow.start("scheduler")

    def is_reporting() -> bool:
        # Unpausing also starts a scheduled run, which may come first.
        is_running = api.get_task_states("drift_monitoring", run).get("report") == "running"
        return is_running and any("run ./drift" in command for command in airflow.commands("scheduler"))

    wait_until(is_reporting, "the report", PATIENCE)
    airflow.kill("scheduler")
    assert api.get_task_states("drift_monitoring", run)["report"] == "running"
    airflow.start("scheduler")
    assert api.wait_for_end("drift_monitoring", run) == "success"
    assert len(deployment.list_reports("none")) == len(before) + 1
    assert len(deployment.receiver.received) == sent


def test_two_simultaneous_runs_of_a_window_make_one_comparison(deployment: Deployment, api: Scheduler) -> None:
    before, sent = deployment.list_reports("limits"), len(deployment.receiver.received)
    options = {"min_rows": 100}  # another comparison than in other tests
    runs = [api.trigger("drift_monitoring", **deployment.windows["limits"], options=options) for _ in range(2)]
    assert [api.wait_for_end("drift_monitoring", run) for run in runs] == ["success", "success"]
    assert len(deployment.list_reports("limits")) == len(before) + 1
    titles = deployment.receiver.list_titles()[sent:]
    assert len(titles) == len(set(titles))


@pytest.fixture
def backfill(deployment: Deployment, api: Scheduler) -> Callable[..., str]:
    """Backfill a day with optional parameters; return the ID of the finished run."""

    def call(day: str, **conf: Any) -> str:
        unfinished = "select count(*) from backfill where completed_at is null"
        wait_until(lambda: deployment.airflow.rows(unfinished) == [(0,)], "the end of an earlier backfill", PATIENCE)
        before = {run["dag_run_id"] for run in api.list_runs("drift_monitoring")}
        span = ["--from-date", day, "--to-date", day, "--dag-run-conf", json.dumps(conf)]
        creation = deployment.airflow.run("backfill", "create", "--dag-id", "drift_monitoring", *span)
        assert creation.returncode == 0, format_output(creation)
        (run,) = [run for run in api.list_runs("drift_monitoring") if run["dag_run_id"] not in before]
        assert run["run_type"] == "backfill"
        assert api.wait_for_end("drift_monitoring", run["dag_run_id"]) == "success"
        return str(run["dag_run_id"])

    return call


def test_a_backfill_reports_on_past_windows_and_sends_no_alert(
    deployment: Deployment, api: Scheduler, backfill: Callable[..., str]
) -> None:
    sent = len(deployment.receiver.received)
    states = api.get_task_states("drift_monitoring", backfill("2026-11-01"))
    assert (states["report"], states["alert"]) == ("success", "skipped")
    reported = {run.data.tags.get("window_from") for run in deployment.list_runs("drift")}
    assert "2026-11-01T00:00:00+00:00" in reported
    assert len(deployment.receiver.received) == sent


def test_a_backfill_of_a_drifted_window_requests_no_retraining(
    deployment: Deployment, api: Scheduler, backfill: Callable[..., str]
) -> None:
    sent, requested = len(deployment.receiver.received), len(api.list_asset_events())
    options = {**RETRAIN_AT_ONCE, "min_rows": 110}  # another comparison than in other tests
    states = api.get_task_states(
        "drift_monitoring", backfill("2026-11-02", **deployment.windows["limits"], options=options)
    )
    assert (states["report"], states["alert"], states["drift_confirmed"]) == ("success", "skipped", "skipped")
    assert deployment.list_reports("limits")[-1].data.tags["decision"] == "retrain"
    assert (len(deployment.receiver.received), len(api.list_asset_events())) == (sent, requested)


def test_a_queued_retraining_does_not_delay_another_request(deployment: Deployment, api: Scheduler) -> None:
    """Airflow 3.3 cannot list asset events while a run that one triggered has not begun (apache/airflow#71360)."""
    airflow = deployment.airflow
    waiting = api.trigger("retraining")
    assert api.get_state("retraining", waiting) == "queued"
    ((earlier,),) = airflow.rows("select max(id) from asset_event")
    airflow.rows(f"insert into dagrun_asset_event select id, {earlier} from dag_run where run_id = '{waiting}'")
    with pytest.raises(HTTPError, match="500 Internal Server Error"):
        api.get("assets/events")

    began, ended = (datetime.fromisoformat(deployment.windows["limits"][end]) for end in ("window_from", "window_to"))
    longer = {"window_from": began.isoformat(), "window_to": (ended + timedelta(seconds=1)).isoformat()}
    run = api.trigger("drift_monitoring", **longer, options=RETRAIN_AT_ONCE)
    assert api.wait_for_end("drift_monitoring", run) == "success"
    assert api.get_task_states("drift_monitoring", run)["drift_confirmed"] == "success"
    assert airflow.rows(f"select source_run_id from asset_event where id > {earlier}") == [(run,)]

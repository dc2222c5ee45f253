"""Both DAGs in a real Airflow, on the log of a real scorer: reports, alerts, retraining, and what goes wrong."""

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
"""Rows of each window; those of the second get their labels, one request each."""

RETRAIN_AT_ONCE = {"confirm": 1, "of_windows": 1, "cooldown_hours": 0}


@dataclass
class Played:
    """A champion, a scorer's log with two windows, a receiver of alerts, and an Airflow that knows of all of them."""

    airflow: Airflow
    receiver: Receiver
    client: MlflowClient
    windows: dict[str, dict[str, Any]]

    def runs(self, experiment: str, chosen: str = "") -> list[Run]:
        found = self.client.get_experiment_by_name(experiment)
        assert found is not None
        return list(self.client.search_runs([found.experiment_id], chosen, order_by=["attributes.start_time ASC"]))

    def reports(self, window: str) -> list[Run]:
        """Finished drift runs that computed a window, and are no repetition of another."""
        start = datetime.fromisoformat(self.windows[window]["window_from"]).isoformat()
        runs = self.runs("drift", "attributes.status = 'FINISHED'")
        return [run for run in runs if run.data.tags.get("window_from") == start and "same_as" not in run.data.tags]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder = tmp_path_factory.mktemp("played")
    store = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=store)
    for name in ("drift", "training"):
        client.create_experiment(name, artifact_location=(folder / "artifacts").as_uri())
    options = " ".join(["main.experiment_name=training", *make_small_forest()])
    table = write_small_table(folder, rows=3000)
    with Receiver() as receiver:
        made = run_command("python", "main.py", f"data.file_url={table}", *options.split(), MLFLOW_TRACKING_URI=store)
        assert made.returncode == 0, made.stderr
        windows = ask(folder, store)
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
        migrated = airflow.run("db", "migrate")
        assert migrated.returncode == 0, migrated.stderr
        try:
            yield Played(airflow, receiver, client, windows)
        finally:
            airflow.end()


def ask(folder: Path, store: str) -> dict[str, dict[str, Any]]:
    """Send two windows of clients to a scorer, one as in training and one with other limits; return their times."""
    windows = {}
    with start_scorer(folder, MODEL, env={"MLFLOW_TRACKING_URI": store}) as server:
        for seed, (drift, rows) in enumerate(ROWS.items(), start=1):
            began = datetime.now(UTC).isoformat()
            send_traffic(server.url, simulate_traffic(rows, seed, drift), batch=100, labels=drift == "limits")
            windows[drift] = {"window_from": began, "window_to": datetime.now(UTC).isoformat()}
    return windows


def output(ended: subprocess.CompletedProcess[str]) -> str:
    return f"{ended.stdout[-6000:]}\n{ended.stderr[-3000:]}"


def test_drift_is_told_and_asks_for_a_retraining_once_however_often_the_window_is_looked_at(played: Played) -> None:
    conf = {**played.windows["limits"], "options": RETRAIN_AT_ONCE}
    for _ in range(2):
        ended = played.airflow.test("drift_monitoring", conf)
        assert ended.returncode == 0, output(ended)
    (report,) = played.reports("limits")
    assert played.receiver.list_titles() == [f"Drift: {MODEL} version 1, retraining begins"]
    assert report.info.run_id in played.receiver.received[0]["message"]
    assert "LIMIT_BAL" in played.receiver.received[0]["message"]
    (extra,) = [json.loads(text) for (text,) in played.airflow.rows("select extra from asset_event")]
    assert extra["drift_run_id"] == report.info.run_id
    assert extra["reason"] == report.data.tags["decision_reason"]


def test_a_window_as_in_training_asks_for_nothing(played: Played) -> None:
    told = len(played.receiver.received)
    ended = played.airflow.test("drift_monitoring", {**played.windows["none"], "options": RETRAIN_AT_ONCE})
    assert ended.returncode == 0, output(ended)
    (report,) = played.reports("none")
    assert report.data.tags["decision"] == "nothing"
    assert len(played.receiver.received) == told


def test_retraining_says_on_run_and_version_why_it_was_made(played: Played) -> None:
    ended = played.airflow.test("retraining", {"reason": 'it\'s 5 % worse, says "Ann"; a=b'})
    assert ended.returncode == 0, output(ended)
    version = played.client.get_model_version(MODEL, "2")
    assert version.tags["because.reason"] == 'it\'s 5 % worse, says "Ann"; a=b'
    pipeline = played.client.get_run(version.tags["pipeline_run_id"])
    assert pipeline.data.tags["because.reason"] == version.tags["because.reason"]
    assert version.tags["data_source"].endswith(".parquet")
    assert "version 2" in played.receiver.list_titles()[-1]
    assert played.receiver.list_titles()[-1].startswith("Retrained")


def test_monitoring_that_fails_is_told_and_so_is_that_it_works_again(played: Played) -> None:
    nowhere = f"http://127.0.0.1:{find_free_port()}"
    down = {"MLFLOW_TRACKING_URI": nowhere, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    ended = played.airflow.test("drift_monitoring", played.windows["none"], **down)
    assert ended.returncode != 0
    assert played.receiver.list_titles()[-1] == "drift_monitoring failed: report"
    assert "Connection refused" in played.receiver.received[-1]["message"]
    ended = played.airflow.test("drift_monitoring", played.windows["none"])
    assert ended.returncode == 0, output(ended)
    assert "drift_monitoring works again" in played.receiver.list_titles()[-2:]


@pytest.fixture(scope="module")
def api(played: Played) -> Scheduler:
    """Airflow's API, with a schedule and with little patience for what gives no sign of life.

    With less than this a scheduler on a busy machine takes itself for lost, and its running tasks for orphans.
    """
    played.airflow.env |= {
        "DRIFT_RETRIES": "2",
        "DRIFT_RETRY_SECONDS": "1",
        "DRIFT_SCHEDULE": "0 0 * * *",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "45",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "2",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "45",
    }
    read = played.airflow.run("dags", "reserialize")
    assert read.returncode == 0, output(read)
    started = played.airflow.api()
    # the asset event of the first test waits for a scheduler; what a retraining tells is not the matter here
    started.set_paused("retraining", True)
    return started


def test_airflow_killed_in_the_middle_of_a_task_ends_it_after_a_restart(played: Played, api: Scheduler) -> None:
    airflow, before, told = played.airflow, played.reports("none"), len(played.receiver.received)
    # with another setting it is another comparison, which no run has made yet
    run = api.trigger("drift_monitoring", **played.windows["none"], options={"min_rows": 100})
    api.set_paused("drift_monitoring", False)
    airflow.start("scheduler")

    def is_reporting() -> bool:
        """Unpausing has begun a scheduled run too, which may go first."""
        running = api.get_task_states("drift_monitoring", run).get("report") == "running"
        return running and any("run ./drift" in one for one in airflow.commands("scheduler"))

    wait_until(is_reporting, "the report", PATIENCE)
    airflow.kill("scheduler")
    assert api.get_task_states("drift_monitoring", run)["report"] == "running"
    airflow.start("scheduler")
    assert api.wait_for_end("drift_monitoring", run) == "success"
    assert len(played.reports("none")) == len(before) + 1
    assert len(played.receiver.received) == told


def test_two_runs_for_one_window_at_the_same_moment_make_one_comparison(played: Played, api: Scheduler) -> None:
    before, told = played.reports("limits"), len(played.receiver.received)
    options = {"min_rows": 100}  # another comparison than those of other tests
    runs = [api.trigger("drift_monitoring", **played.windows["limits"], options=options) for _ in range(2)]
    assert [api.wait_for_end("drift_monitoring", run) for run in runs] == ["success", "success"]
    assert len(played.reports("limits")) == len(before) + 1
    titles = played.receiver.list_titles()[told:]
    assert len(titles) == len(set(titles))


@pytest.fixture
def backfill(played: Played, api: Scheduler) -> Callable[..., str]:
    """Make up for the run of a day, which may be given parameters; return the run's id when it has ended well."""

    def call(day: str, **conf: Any) -> str:
        done = "select count(*) from backfill where completed_at is null"
        wait_until(lambda: played.airflow.rows(done) == [(0,)], "the end of an earlier backfill", PATIENCE)
        before = {run["dag_run_id"] for run in api.runs("drift_monitoring")}
        span = ["--from-date", day, "--to-date", day, "--dag-run-conf", json.dumps(conf)]
        made = played.airflow.run("backfill", "create", "--dag-id", "drift_monitoring", *span)
        assert made.returncode == 0, output(made)
        (run,) = [run for run in api.runs("drift_monitoring") if run["dag_run_id"] not in before]
        assert run["run_type"] == "backfill"
        assert api.wait_for_end("drift_monitoring", run["dag_run_id"]) == "success"
        return str(run["dag_run_id"])

    return call


def test_a_backfill_reports_on_past_windows_and_tells_nobody(
    played: Played, api: Scheduler, backfill: Callable[..., str]
) -> None:
    told = len(played.receiver.received)
    states = api.get_task_states("drift_monitoring", backfill("2026-11-01"))
    assert (states["report"], states["alert"]) == ("success", "skipped")
    reported = {run.data.tags.get("window_from") for run in played.runs("drift")}
    assert "2026-11-01T00:00:00+00:00" in reported
    assert len(played.receiver.received) == told


def test_a_backfill_over_a_drifted_window_retrains_nothing(
    played: Played, api: Scheduler, backfill: Callable[..., str]
) -> None:
    told, asked = len(played.receiver.received), len(api.list_asset_events())
    options = {**RETRAIN_AT_ONCE, "min_rows": 110}  # another comparison than those of other tests
    states = api.get_task_states(
        "drift_monitoring", backfill("2026-11-02", **played.windows["limits"], options=options)
    )
    assert (states["report"], states["alert"], states["drift_confirmed"]) == ("success", "skipped", "skipped")
    assert played.reports("limits")[-1].data.tags["decision"] == "retrain"
    assert (len(played.receiver.received), len(api.list_asset_events())) == (told, asked)


def test_a_retraining_that_waits_for_its_turn_holds_no_other_request_up(played: Played, api: Scheduler) -> None:
    """Airflow 3.3 cannot show an asset event while a run that it made has not begun (apache/airflow#71360)."""
    airflow = played.airflow
    waiting = api.trigger("retraining")
    assert api.get_state("retraining", waiting) == "queued"
    ((earlier,),) = airflow.rows("select max(id) from asset_event")
    airflow.rows(f"insert into dagrun_asset_event select id, {earlier} from dag_run where run_id = '{waiting}'")
    with pytest.raises(HTTPError, match="500 Internal Server Error"):
        api.get("assets/events")

    began, ended = (datetime.fromisoformat(played.windows["limits"][end]) for end in ("window_from", "window_to"))
    longer = {"window_from": began.isoformat(), "window_to": (ended + timedelta(seconds=1)).isoformat()}
    run = api.trigger("drift_monitoring", **longer, options=RETRAIN_AT_ONCE)
    assert api.wait_for_end("drift_monitoring", run) == "success"
    assert api.get_task_states("drift_monitoring", run)["drift_confirmed"] == "success"
    assert airflow.rows(f"select source_run_id from asset_event where id > {earlier}") == [(run,)]

"""Airflow's four parts on PostgreSQL, with the commands of the compose file, and a drift window through them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from stepkit.paths import ROOT
from tests.stack.stack import Stack
from tests.stack.test_core import ask_database, score
from tests.support.servers import wait_until

AIRFLOW = "http://127.0.0.1:8080"
PARTS = ("airflow-api-server", "airflow-dag-processor", "airflow-triggerer", "airflow-scheduler")
DAGS = {path.stem for path in (ROOT / "drift" / "dags").glob("*.py") if "@dag" in path.read_text(encoding="utf-8")}


@pytest.fixture(scope="module")
def airflow(trained: Stack) -> Stack:
    trained.up(*PARTS)
    for part in PARTS:
        trained.wait_healthy(part)
    return trained


def token(stack: Stack) -> dict[str, str]:
    login = {"username": "admin", "password": stack.secrets["AIRFLOW_ADMIN_PASSWORD"]}
    response = stack.ask("POST", f"{AIRFLOW}/auth/token", json=login)
    assert response.status_code == 201, response.text
    return {"Authorization": f"Bearer {response.json()['access_token']}"}


def test_only_the_password_of_the_environment_file_opens_airflow(airflow: Stack) -> None:
    wrong = airflow.ask("POST", f"{AIRFLOW}/auth/token", json={"username": "admin", "password": "admin"})
    assert wrong.status_code == 401
    assert token(airflow)


def test_every_part_reports_that_it_is_well(airflow: Stack) -> None:
    parts = airflow.get(f"{AIRFLOW}/api/v2/monitor/health").json()
    states = {name: parts[name]["status"] for name in ("metadatabase", "scheduler", "triggerer", "dag_processor")}
    assert set(states.values()) == {"healthy"}, states


def test_its_tables_are_in_postgresql(airflow: Stack) -> None:
    assert int(ask_database(airflow, "airflow", "airflow", "SELECT count(*) FROM job WHERE state = 'running'")) >= 3


def test_the_dags_are_loaded_without_an_error(airflow: Stack) -> None:
    url = f"{AIRFLOW}/api/v2/dags"
    wait_until(
        lambda: {dag["dag_id"] for dag in airflow.get(url, headers=token(airflow)).json()["dags"]} == DAGS, "DAGs"
    )
    assert airflow.get(f"{AIRFLOW}/api/v2/importErrors", headers=token(airflow)).json()["import_errors"] == []


def run_dag(stack: Stack, name: str, conf: Mapping[str, object]) -> dict[str, str]:
    """Trigger a DAG, wait for its end, and return the state of each task."""
    url = f"{AIRFLOW}/api/v2/dags/{name}/dagRuns"
    response = stack.ask("POST", url, json={"logical_date": None, "conf": conf}, headers=token(stack))
    assert response.status_code == 200, response.text
    run = f"{url}/{response.json()['dag_run_id']}"
    ends = ("success", "failed")
    wait_until(lambda: stack.get(run, headers=token(stack)).json()["state"] in ends, f"{name} ends", 900)
    tasks = stack.get(f"{run}/taskInstances", headers=token(stack)).json()["task_instances"]
    return {task["task_id"]: task["state"] for task in tasks}


def test_a_window_of_drift_goes_through_the_stack(airflow: Stack) -> None:
    """The scheduler starts the DAG. Its task runs the drift step with an MLflow account, on the log in PostgreSQL."""
    score(airflow, 400)
    states = run_dag(airflow, "drift_monitoring", {"rows": 400})
    assert (states["report"], states["alert"]) == ("success", "success"), f"{states}{airflow.said('airflow-scheduler')}"
    statement = """SELECT count(*) FROM runs r JOIN experiments e USING (experiment_id)
        JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = 'window_rows' AND t.value = '400'
        WHERE e.name = 'drift' AND r.status = 'FINISHED'"""
    assert int(ask_database(airflow, "mlflow", "mlflow", statement)) == 1


def test_a_retraining_goes_through_the_stack(airflow: Stack) -> None:
    """Uses a separate table. The new version records the reason for the training."""
    few_trees = "random_forest_pipeline.random_forest.n_estimators=10"
    conf = {"file_url": "data/sample.csv.gz", "options": few_trees, "reason": "a test of the stack"}
    states = run_dag(airflow, "retraining", conf)
    assert set(states.values()) == {"success"}, f"{states}{airflow.said('airflow-scheduler')[-3000:]}"
    statement = """SELECT count(*) FROM model_versions v JOIN model_version_tags t USING (name, version)
        WHERE t.key LIKE 'because.%' AND t.value = 'a test of the stack'"""
    assert int(ask_database(airflow, "mlflow", "mlflow", statement)) >= 1

"""Wrong passwords, a full disk, older databases: the services print clear errors and lose nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.stack.stack import Stack, stop_process
from tests.stack.test_core import ask_database, key, rows
from tests.support.servers import wait_until

CURRENT = """SELECT count(*) FROM runs r JOIN experiments e USING (experiment_id)
    JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = 'current' AND t.value = 'true'
    WHERE e.name = 'full_disk'"""

SCHEMA = "SELECT version_num FROM alembic_version"


@contextmanager
def full_disk(stack: Stack) -> Iterator[None]:
    """Leave no byte free in the volume of artifacts."""
    filler = stack.sandbox.volume("mlflow-artifacts") / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(filler).free)
    try:
        yield
    finally:
        filler.unlink()


def test_a_full_disk_is_told_nothing_is_current_and_with_room_it_goes_on(running: Stack) -> None:
    words = ["python", "main.py", "main.experiment_name=full_disk", "main.execute_steps=[download]"]
    with full_disk(running):
        result = running.run("pipeline", words)
    assert result.returncode == 1, result.stdout[-3000:]
    assert "ArtifactsNotStored: the tracking server http://mlflow:7755 could not store" in result.stdout
    assert "Free space, then run the same command again" in result.stdout
    assert "Traceback" not in result.stdout
    assert ask_database(running, "mlflow", "mlflow", CURRENT) == "0"
    again = running.run("pipeline", words)
    assert again.returncode == 0, again.stdout[-3000:]
    assert int(ask_database(running, "mlflow", "mlflow", CURRENT)) >= 1


def test_a_wrong_password_of_mlflows_admin_is_told_with_what_to_do(running: Stack) -> None:
    command = running.services["mlflow-accounts"].command
    result = running.run("mlflow-accounts", command, MLFLOW_TRACKING_PASSWORD="guessed")
    assert result.returncode == 1
    assert "AccountsRefused: MLFLOW_ADMIN_PASSWORD is not the password of admin" in result.stdout
    assert "docs/stack.md (Passwords)" in result.stdout
    assert "Traceback" not in result.stdout


@contextmanager
def started_beside(stack: Stack, name: str, *words: str, **env: str) -> Iterator[Path]:
    """Start a second instance of a service with other variables, and yield its log."""
    log = stack.folder / f"{name}-beside.log"
    service = stack.services[name]
    with log.open("wb") as output:
        process = stack.sandbox.start(service, [*service.command, *words], output, **env)
    try:
        yield log
    finally:
        stop_process(process)


def test_mlflow_with_a_wrong_password_for_postgresql_names_the_role(running: Stack) -> None:
    """It keeps retrying, so the error is in its log."""
    with started_beside(running, "mlflow", "--port=7798", PGPASSWORD="guessed") as log:
        line = 'password authentication failed for user "mlflow"'
        wait_until(lambda: line in log.read_text(), "MLflow names the role")
        assert "guessed" not in log.read_text()


def test_the_scorer_with_a_wrong_password_for_postgresql_says_so_and_answers_nothing(trained: Stack) -> None:
    """It waits for the prediction log, as when the database is down."""
    with started_beside(trained, "scorer", "--port", "5099", PGPASSWORD="guessed") as log:
        line = 'password authentication failed for user "predictions"'
        wait_until(lambda: line in log.read_text(), "the scorer names the role")
        wait_until(lambda: is_healthy(trained, "http://127.0.0.1:5099/health"), "the scorer has a model")
        url = "http://127.0.0.1:5099/invocations"
        response = trained.ask("POST", url, json=rows(1), headers=key(trained))
        assert (response.status_code, response.json()["error_code"]) == (503, "LOG_UNAVAILABLE")
        assert "guessed" not in log.read_text()
        assert "Traceback" not in log.read_text()


def test_the_scorer_with_a_wrong_password_for_mlflow_says_so(running: Stack) -> None:
    with started_beside(running, "scorer", "--port", "5098", MLFLOW_TRACKING_PASSWORD="guessed") as log:
        line = "TrackingRefused: the tracking server http://mlflow:7755 refuses the account 'scorer'"
        wait_until(lambda: line in log.read_text(), "the scorer names the account")
        assert "guessed" not in log.read_text()
        assert "Traceback" not in log.read_text()


def is_healthy(stack: Stack, url: str) -> bool:
    try:
        return stack.get(url).status_code == 200
    except requests.ConnectionError:
        return False


def test_an_older_database_of_airflow_is_brought_up_to_date_at_the_start(running: Stack) -> None:
    """Uses a separate database, downgraded to the previous schema."""
    assert "refused" not in ask_database(running, "postgres", "postgres", "CREATE DATABASE elder OWNER airflow")
    url = "postgresql+psycopg://airflow@postgres/elder"
    env = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": url}
    for words in (["migrate"], ["downgrade", "--yes", "--to-version", "3.2.0"]):
        result = running.run("airflow-init", ["airflow", "db", *words], 300, **env)
        assert result.returncode == 0, result.stdout[-3000:]
    older = ask_database(running, "elder", "airflow", SCHEMA)
    started = running.run("airflow-init", running.services["airflow-init"].command, 300, **env)
    assert started.returncode == 0, started.stdout[-3000:]
    assert ask_database(running, "elder", "airflow", SCHEMA) != older
    checked = running.run("airflow-init", ["airflow", "db", "check-migrations"], 300, **env)
    assert checked.returncode == 0, checked.stdout[-3000:]

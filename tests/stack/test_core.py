"""Core of the stack, with the commands and environments of docker/compose.yaml."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from simulate.clients import simulate_clients
from tests.stack.stack import Stack
from tests.support.servers import wait_until

MLFLOW = "http://127.0.0.1:7755"
SCORER = "http://127.0.0.1:5000"
SEARCH = f"{MLFLOW}/api/2.0/mlflow/experiments/search"
ACCOUNTS = {
    "admin": "MLFLOW_ADMIN_PASSWORD",
    "pipeline": "MLFLOW_PIPELINE_PASSWORD",
    "scorer": "MLFLOW_SCORER_PASSWORD",
}


def account(stack: Stack, name: str) -> tuple[str, str]:
    return name, stack.secrets[ACCOUNTS[name]]


def key(stack: Stack) -> dict[str, str]:
    return {"Authorization": f"Bearer {stack.secrets['SCORER_API_KEY']}"}


def rows(count: int, seed: int = 5) -> dict[str, object]:
    table = simulate_clients(count, seed).drop(columns=["ID", "default payment next month"]).astype(float)
    request: dict[str, object] = json.loads(table.to_json(orient="split", index=False))
    return {"dataframe_split": request}


def score(stack: Stack, count: int = 5) -> list[dict[str, float]]:
    response = stack.ask("POST", f"{SCORER}/invocations", json=rows(count), headers=key(stack))
    assert response.status_code == 200, response.text
    predictions: list[dict[str, float]] = response.json()["predictions"]
    return predictions


def ask_database(stack: Stack, database: str, role: str, statement: str) -> str:
    """Return the output of an SQL statement, run as a role of PostgreSQL with its password."""
    name = {"postgres": "POSTGRES_PASSWORD"}.get(role, f"{role.upper()}_DB_PASSWORD")
    command = [
        "psql",
        "-X",
        "-A",
        "-t",
        "-v",
        "ON_ERROR_STOP=1",
        "-c",
        statement,
        f"postgresql://{role}@postgres/{database}",
    ]
    result = stack.run("postgres", command, PGPASSWORD=stack.secrets[name])
    return result.stdout.strip() if result.returncode == 0 else f"refused: {result.stdout.strip()}"


def test_mlflow_lets_nobody_in_without_an_account(running: Stack) -> None:
    assert running.get(f"{SEARCH}?max_results=1").status_code == 401
    assert running.get(f"{SEARCH}?max_results=1", auth=("admin", "guessed")).status_code == 401
    assert running.get(f"{SEARCH}?max_results=1", auth=account(running, "scorer")).status_code == 200


@pytest.mark.parametrize(("host", "status"), [("mlflow:7755", 200), ("localhost:9999", 200), ("evil.example", 403)])
def test_mlflow_answers_only_to_names_it_knows(running: Stack, host: str, status: int) -> None:
    response = running.get(f"{SEARCH}?max_results=1", auth=account(running, "admin"), headers={"Host": host})
    assert response.status_code == status


def test_the_scorers_account_may_read_and_not_write(running: Stack) -> None:
    url = f"{MLFLOW}/api/2.0/mlflow/runs/create"
    body = {"experiment_id": "0"}
    assert running.ask("POST", url, json=body, auth=account(running, "scorer")).status_code == 403
    assert running.ask("POST", url, json=body, auth=account(running, "pipeline")).status_code == 200


def test_a_wrong_password_is_told_in_one_line(running: Stack) -> None:
    result = running.run("pipeline", ["python", "main.py"], MLFLOW_TRACKING_PASSWORD="guessed")
    assert result.returncode != 0
    assert "TrackingRefused: the tracking server http://mlflow:7755 refuses the account 'pipeline'" in result.stdout
    assert "Traceback" not in result.stdout


def test_services_own_nothing_but_their_volumes(running: Stack) -> None:
    script = "touch /srv/project/x || touch /etc/x || touch /opt/venv/x || { id -u; touch /tmp/x && echo fine; }"
    assert running.run("mlflow", ["sh", "-c", script]).stdout.split()[-2:] == ["10001", "fine"]


def test_a_pipeline_runs_and_the_scorer_takes_its_champion(trained: Stack) -> None:
    wait_until(lambda: trained.get(f"{SCORER}/health").status_code == 200, "the scorer has a model")
    assert trained.ask("POST", f"{SCORER}/invocations", json=rows(1)).status_code == 401
    predictions = pd.DataFrame(score(trained, 20))
    assert predictions["probability"].between(0, 1).all()
    recorded = ask_database(trained, "predictions", "predictions", "SELECT count(*) FROM predictions WHERE NOT shadow")
    assert int(recorded) >= 20


def test_artifacts_go_through_the_server(trained: Stack) -> None:
    scheme = ask_database(trained, "mlflow", "mlflow", "SELECT DISTINCT split_part(artifact_uri, ':', 1) FROM runs")
    assert scheme == "mlflow-artifacts"
    assert any(trained.sandbox.volume("mlflow-artifacts").rglob("model.skops"))


def test_grafanas_role_reads_runs_and_predictions_and_nothing_else(trained: Stack) -> None:
    assert int(ask_database(trained, "mlflow", "grafana", "SELECT count(*) FROM runs")) > 5
    assert ask_database(trained, "mlflow", "grafana", "DELETE FROM runs").startswith("refused")
    assert "permission denied for database" in ask_database(trained, "mlflow_auth", "grafana", "SELECT 1")
    assert "permission denied for database" in ask_database(trained, "airflow", "grafana", "SELECT 1")
    assert "permission denied for database" in ask_database(trained, "mlflow", "predictions", "SELECT 1")


def test_no_secret_is_in_a_command_line_or_a_log(trained: Stack) -> None:
    secrets = {name: value for name, value in trained.secrets.items() if len(value) > 30}
    shown = {name: trained.said(name) for name in trained.running}
    shown["commands"] = json.dumps([service.command for service in trained.services.values()])
    assert secrets
    leaks = [(place, name) for place, text in shown.items() for name, value in secrets.items() if value in text]
    assert leaks == []


def test_the_accounts_can_be_made_again(running: Stack) -> None:
    result = running.run("mlflow-accounts", running.services["mlflow-accounts"].command)
    assert result.returncode == 0, result.stdout
    assert running.get(f"{SEARCH}?max_results=1", auth=account(running, "pipeline")).status_code == 200


def test_a_database_of_an_older_schema_is_refused_with_the_command_to_run(running: Stack) -> None:
    """Uses a copy of the database, so that the running server is not affected."""
    copied = "CREATE DATABASE older OWNER mlflow"
    assert "refused" not in ask_database(running, "postgres", "postgres", copied)
    uri = "postgresql+psycopg://mlflow@postgres/older"
    upgrade = running.run("mlflow", ["mlflow", "db", "upgrade", uri])
    assert upgrade.returncode == 0, upgrade.stdout[-2000:]
    older = "UPDATE alembic_version SET version_num = 'bda7b8c39065'"
    assert "refused" not in ask_database(running, "older", "mlflow", older)
    command = [word.replace("@postgres/mlflow", "@postgres/older") for word in running.services["mlflow"].command]
    result = running.run("mlflow", [*command, "--port=7799"])
    assert result.returncode != 0
    assert "mlflow db upgrade" in result.stdout

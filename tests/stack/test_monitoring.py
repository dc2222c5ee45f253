"""Prometheus with the running scorer, and all queries of all panels on real data."""

from __future__ import annotations

import math
import time

import pytest

from stepkit.paths import ROOT
from tests.stack.dashboards import Query, expanded, queries
from tests.stack.draw import draw
from tests.stack.stack import Stack
from tests.stack.test_core import ask_database, key
from tests.support.servers import wait_until

PROMETHEUS = "http://127.0.0.1:9090"
SCORER = "http://127.0.0.1:5000"
ROWS = 600
"""Clients in one wave of traffic."""


@pytest.fixture(scope="module")
def watched(trained: Stack) -> Stack:
    """Return the stack with Prometheus, after three waves of traffic, two drift windows and some failed requests."""
    trained.up("prometheus")
    trained.wait_healthy("prometheus")
    wait_until(lambda: trained.get(f"{SCORER}/health").status_code == 200, "the scorer has a model")
    send_traffic(trained, "none", 1)
    send_traffic(trained, "none", 2)
    report_on_drift(trained, 2 * ROWS)
    send_traffic(trained, "limits", 3)
    report_on_drift(trained, ROWS)
    return trained


def send_traffic(stack: Stack, drift: str, seed: int) -> None:
    """Send a bad request, then traffic with labels, and wait until Prometheus has all of it."""
    refused = stack.ask("POST", f"{SCORER}/invocations", json={"instances": "no rows"}, headers=key(stack))
    assert refused.status_code == 400
    command = ["mlflow", "run", "/srv/project/simulate", "-e", "traffic", "--env-manager", "local"]
    parameters = {"url": "http://scorer:5000", "rows": ROWS, "batch": 25, "drift": drift, "seed": seed}
    words = [word for name, value in parameters.items() for word in ("-P", f"{name}={value}")]
    sent = stack.run("pipeline", [*command, *words], 600, SCORER_API_KEY=stack.secrets["SCORER_API_KEY"])
    assert sent.returncode == 0, sent.stdout[-3000:]
    scored = rows_scored(stack)
    assert scored >= ROWS
    wait_until(lambda: value(stack, "sum(scorer_rows_total)") == scored, "Prometheus has the traffic")


def rows_scored(stack: Stack) -> float:
    """Return the number of scored rows from the metrics of the scorer."""
    lines = stack.get(f"{SCORER}/metrics", headers=key(stack)).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("scorer_rows_total{"))


def report_on_drift(stack: Stack, rows: int) -> None:
    """Compare the newest rows with the training data, like the tasks of Airflow."""
    log = f"postgresql://predictions:{stack.secrets['PREDICTIONS_DB_PASSWORD']}@postgres/predictions"
    command = ["mlflow", "run", "/srv/project/drift", "--env-manager", "local", "--experiment-name", "drift"]
    env = {"PREDICTION_LOG_URL": log, "PATH": "/opt/venv/bin:/usr/bin:/bin"}
    result = stack.run("airflow-scheduler", [*command, "-P", f"current=log:?rows={rows}"], 600, **env)
    assert result.returncode == 0, result.stdout[-3000:]


def value(stack: Stack, expression: str) -> float:
    results = series(stack, expression)
    return float(results[0]["value"][1]) if results else math.nan


def series(stack: Stack, expression: str) -> list[dict[str, list[float]]]:
    response = stack.get(f"{PROMETHEUS}/api/v1/query", params={"query": expression}).json()
    assert response["status"] == "success", f"{expression}: {response}"
    results: list[dict[str, list[float]]] = response["data"]["result"]
    return results


def test_prometheus_reaches_the_scorer_with_its_key(watched: Stack) -> None:
    targets = watched.get(f"{PROMETHEUS}/api/v1/targets").json()["data"]["activeTargets"]
    assert {target["labels"]["job"]: target["health"] for target in targets} == {"scorer": "up", "prometheus": "up"}


def test_every_alert_is_loaded_and_quiet_on_a_stack_that_is_well(watched: Stack) -> None:
    groups = watched.get(f"{PROMETHEUS}/api/v1/rules").json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == 10
    assert {rule["name"]: rule["lastError"] for rule in rules if rule.get("lastError")} == {}
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []


@pytest.mark.parametrize(
    "query", [query for query in queries() if query.source == "prometheus"], ids=lambda query: query.name
)
def test_a_query_of_prometheus_finds_data(watched: Stack, query: Query) -> None:
    values = [float(result["value"][1]) for result in series(watched, query.text)]
    assert any(math.isfinite(value) for value in values), f"{query.text}: {values}"


@pytest.mark.parametrize(
    "query", [query for query in queries() if query.source != "prometheus"], ids=lambda query: query.name
)
def test_a_query_of_postgresql_finds_data(watched: Stack, query: Query) -> None:
    now = int(time.time())
    output = ask_database(watched, query.source, "grafana", expanded(query.text, now - 7 * 86400, now + 3600))
    assert output, query.text
    assert not output.startswith("refused"), output


@pytest.mark.parametrize("name", ["service", "model", "drift"])
def test_a_dashboard_can_be_looked_at(watched: Stack, name: str) -> None:
    """Draws outputs/stack/NAME.png from the results of its queries."""
    target = ROOT / "outputs" / "stack" / f"{name}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    draw(watched, name, target, 900)
    assert target.stat().st_size > 20_000


def test_an_alert_fires_when_the_scorer_is_gone(watched: Stack) -> None:
    """Comes last, because it stops the scorer. The rule waits for a minute."""
    watched.stop("scorer")
    wait_until(lambda: bool(series(watched, 'ALERTS{alertname="ScorerDown",alertstate="firing"}')), "ScorerDown", 240)
    watched.start("scorer")
    watched.wait_healthy("scorer")

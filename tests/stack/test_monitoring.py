"""Prometheus by its own command line on the running scorer, and every query of every panel against real data."""

from __future__ import annotations

import time

import pytest

from stepkit.tracking import ROOT
from tests.servers import wait_until
from tests.stack.dashboards import Query, expanded, queries
from tests.stack.draw import draw
from tests.stack.stack import Stack
from tests.stack.test_core import ask_database

PROMETHEUS = "http://127.0.0.1:9090"
QUIET = {
    "service: Refused and failed, by kind",
    "model: Versions taken and refused",
    "drift: Quality",
    "drift: AUC, estimated and realised",
    "drift: Drift of the score",
}
"""Panels of which a query may find nothing while all is well."""

DRIFT = (ROOT / "drift" / "MLproject").is_file()
LOG = "postgresql://predictions:{password}@postgres/predictions"


@pytest.fixture(scope="module")
def watched(trained: Stack) -> Stack:
    """The stack with Prometheus, after traffic with labels and (where the drift step is there) a window of drift."""
    trained.up("prometheus")
    trained.wait_healthy("prometheus")
    wait_until(lambda: trained.get("http://127.0.0.1:5000/health").status_code == 200, "the scorer has a model")
    send_traffic(trained, 1200)
    if DRIFT:
        log = LOG.format(password=trained.secrets["PREDICTIONS_DB_PASSWORD"])
        command = ["mlflow", "run", "/srv/project/drift", "--env-manager", "local", "--experiment-name", "drift"]
        # where Airflow's tasks run, by the project's environment there
        env = {"PREDICTION_LOG_URL": log, "PATH": "/opt/venv/bin:/usr/bin:/bin"}
        ended = trained.run("airflow-scheduler", [*command, "-P", "current=log:?rows=1000"], 600, **env)
        assert ended.returncode == 0, ended.stdout[-3000:]
    wait_until(lambda: series(trained, "sum(scorer_rows_total) > 1000") != [], "Prometheus has the traffic")
    first = series(trained, "sum(scorer_rows_total)")[0]["value"][0]
    wait_until(lambda: series(trained, "rate(scorer_rows_total[5m])") != [], f"a second look at it (first at {first})")
    return trained


def send_traffic(stack: Stack, rows: int, *parameters: str) -> None:
    """Clients ask the scorer, and tell it later what became of them."""
    command = ["mlflow", "run", "/srv/project/simulate", "-e", "traffic", "--env-manager", "local"]
    words = ["-P", "url=http://scorer:5000", "-P", f"rows={rows}", "-P", "batch=25", *parameters]
    ended = stack.run("pipeline", [*command, *words], 600, SCORER_API_KEY=stack.secrets["SCORER_API_KEY"])
    assert ended.returncode == 0, ended.stdout[-3000:]


def series(stack: Stack, expression: str) -> list[dict[str, list[float]]]:
    answer = stack.get(f"{PROMETHEUS}/api/v1/query", params={"query": expression}).json()
    assert answer["status"] == "success", f"{expression}: {answer}"
    found: list[dict[str, list[float]]] = answer["data"]["result"]
    return found


def test_prometheus_reaches_the_scorer_with_its_key(watched: Stack) -> None:
    targets = watched.get(f"{PROMETHEUS}/api/v1/targets").json()["data"]["activeTargets"]
    assert {one["labels"]["job"]: one["health"] for one in targets} == {"scorer": "up", "prometheus": "up"}


def test_every_alert_is_loaded_and_quiet_on_a_stack_that_is_well(watched: Stack) -> None:
    groups = watched.get(f"{PROMETHEUS}/api/v1/rules").json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == 10
    assert {rule["name"]: rule["lastError"] for rule in rules if rule.get("lastError")} == {}
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []


@pytest.mark.parametrize("query", [one for one in queries() if one.source == "prometheus"], ids=lambda one: one.name)
def test_a_query_of_prometheus_finds_data(watched: Stack, query: Query) -> None:
    assert series(watched, query.text) or query.name in QUIET, query.text


@pytest.mark.parametrize("query", [one for one in queries() if one.source != "prometheus"], ids=lambda one: one.name)
def test_a_query_of_postgresql_finds_data(watched: Stack, query: Query) -> None:
    if query.dashboard == "drift" and query.source == "mlflow" and not DRIFT:
        pytest.skip("there is no drift step to make runs")
    now = int(time.time())
    found = ask_database(watched, query.source, "grafana", expanded(query.text, now - 7 * 86400, now + 3600))
    assert not found.startswith("refused"), found
    assert found or query.name in QUIET, query.text


@pytest.mark.parametrize("name", ["service", "model", "drift"])
def test_a_dashboard_can_be_looked_at(watched: Stack, name: str) -> None:
    """As outputs/stack/NAME.png, drawn from what its queries answer."""
    target = ROOT / "outputs" / "stack" / f"{name}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    draw(watched, name, target, 1800 if name == "service" else 7200)
    assert target.stat().st_size > 20_000


def test_an_alert_fires_when_the_scorer_is_gone(watched: Stack) -> None:
    """Last: it ends the scorer. The rule waits for a minute."""
    watched.stop("scorer")
    wait_until(lambda: bool(series(watched, 'ALERTS{alertname="ScorerDown",alertstate="firing"}')), "ScorerDown", 240)
    watched.start("scorer")
    watched.wait_healthy("scorer")

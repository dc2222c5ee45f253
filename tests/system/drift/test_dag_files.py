"""DAG files as Airflow reads them: fast, light, documented."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from stepkit.paths import ROOT
from tests.support.airflow import PATIENCE, PYTHON

TASKS = {
    "drift_monitoring": {"window", "report", "alert", "decide", "drift_confirmed"},
    "retraining": {"why", "labelled", "train", "tell"},
}
PARSE = """
import json, sys, time
from airflow.dag_processing.dagbag import BundleDagBag
before, began = set(sys.modules), time.process_time()
bag = BundleDagBag(sys.argv[1], bundle_path=__import__("pathlib").Path(sys.argv[1]), bundle_name="test")
print(json.dumps({
    "seconds": time.process_time() - began,
    "errors": bag.import_errors,
    "tasks": {name: [task.task_id for task in dag.tasks] for name, dag in bag.dags.items()},
    "docs": {name: dag.doc_md for name, dag in bag.dags.items()},
    "tags": {name: sorted(dag.tags) for name, dag in bag.dags.items()},
    "limits": [task.execution_timeout.total_seconds() for dag in bag.dags.values() for task in dag.tasks],
    "retries": [[task.retries, task.retry_exponential_backoff] for dag in bag.dags.values() for task in dag.tasks],
    "loaded": sorted({module.partition(".")[0] for module in set(sys.modules) - before}),
}))
"""
HEAVY = {"mlflow", "pandas", "numpy", "sklearn", "evidently", "apprise", "sqlalchemy_utils", "psutil"}


@pytest.fixture(scope="module")
def parsed() -> dict[str, Any]:
    """The DAGs that Airflow reads from the folder."""
    command = [str(PYTHON), "-c", PARSE, str(ROOT / "drift" / "dags")]
    env = {"AIRFLOW__CORE__LOAD_EXAMPLES": "False", "PATH": str(PYTHON.parent)}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 0, ended.stderr
    dags: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return dags


def test_airflow_reads_both_dags_and_nothing_else(parsed: dict[str, Any]) -> None:
    assert parsed["errors"] == {}
    assert {name: set(tasks) for name, tasks in parsed["tasks"].items()} == TASKS


def test_a_dag_is_read_fast_and_loads_nothing_heavy(parsed: dict[str, Any]) -> None:
    assert set(parsed["loaded"]) & HEAVY == set()
    assert parsed["seconds"] < 2


def test_a_dag_has_documentation_time_limits_and_retries(parsed: dict[str, Any]) -> None:
    for name, tasks in TASKS.items():
        assert [task for task in tasks if f"**{task}**" not in parsed["docs"][name].replace("`", "")] == []
        assert "credit_default" in parsed["tags"][name]
    assert max(parsed["limits"]) <= 6 * 3600
    assert {(retries >= 1, backoff >= 2) for retries, backoff in parsed["retries"]} == {(True, True)}

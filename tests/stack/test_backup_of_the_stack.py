"""Stores of the stack are saved during writes, deleted, and restored without any loss."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from tests.stack.stack import Stack
from tests.stack.test_core import ask_database, score
from tests.support.servers import wait_until

TABLES = {"airflow": "job", "mlflow": "runs", "mlflow_auth": "users", "predictions": "predictions"}


def counts(stack: Stack) -> dict[str, str]:
    return {
        name: ask_database(stack, name, "postgres", f"SELECT count(*) FROM {table}") for name, table in TABLES.items()
    }


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and ".before-" not in str(path)]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def back_up(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*stack.services["backup"].definition["entrypoint"], *words]
    return stack.run("backup", command)


def test_wipe_and_restore(trained: Stack) -> None:
    trained.up("airflow-init")
    score(trained, 7)
    before, files = counts(trained), digests(trained.sandbox.volume("mlflow-artifacts"))
    saved = back_up(trained, "save")
    assert saved.returncode == 0, saved.stdout
    folder = saved.stdout.split(":")[0]

    busy = back_up(trained, "restore", "--from", folder, "--replace")
    assert busy.returncode == 1
    assert "Stop server, scorer and pipeline first" in busy.stdout

    stopped = [name for name in trained.lasting() if name != "postgres"]
    for name in reversed(stopped):
        trained.stop(name)
    for name in TABLES:
        ask_database(trained, name, "postgres", "DROP SCHEMA public CASCADE")
        ask_database(trained, name, "postgres", "CREATE SCHEMA public")
    for path in trained.sandbox.volume("mlflow-artifacts").iterdir():
        subprocess.run(["rm", "-r", str(path)], check=True)

    restored = back_up(trained, "restore", "--from", folder)
    assert restored.returncode == 0, restored.stdout
    assert counts(trained) == before
    assert digests(trained.sandbox.volume("mlflow-artifacts")) == files
    assert int(ask_database(trained, "mlflow", "grafana", "SELECT count(*) FROM runs")) > 0

    trained.up(*stopped)
    for name in stopped:
        trained.wait_healthy(name)
    assert len(score_when_ready(trained)) == 3


def score_when_ready(stack: Stack) -> list[dict[str, float]]:
    wait_until(lambda: stack.get("http://127.0.0.1:5000/health").status_code == 200, "the scorer has its model again")
    return score(stack, 3)

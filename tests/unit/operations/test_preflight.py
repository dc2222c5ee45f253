"""What is in the way of the stack's start is told before anything starts."""

from __future__ import annotations

import re
import runpy
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stepkit.paths import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(sys, "path", [str(ROOT / "docker"), *sys.path])
    return runpy.run_path(str(ROOT / "docker" / "preflight.py"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".env.example").write_text("A_PASSWORD=\nB_KEY=\nPORT=1\n")
    return tmp_path


def test_a_missing_file_of_secrets(program: dict[str, Any], folder: Path) -> None:
    (problem,) = program["missing_secrets"](folder)
    assert problem.endswith(".env is not there. Type: make secrets")


def test_a_secret_without_a_value_and_a_file_that_others_read(program: dict[str, Any], folder: Path) -> None:
    (folder / ".env").write_text("A_PASSWORD=\nB_KEY=x\nPORT=1\n")
    (folder / ".env").chmod(0o644)
    empty, open_to_all = program["missing_secrets"](folder)
    assert "has no value for A_PASSWORD. Type: make secrets" in empty
    assert f"chmod 600 {folder / '.env'}" in open_to_all
    (folder / ".env").write_text("A_PASSWORD=x\nB_KEY=x\nPORT=1\n")
    (folder / ".env").chmod(0o600)
    assert list(program["missing_secrets"](folder)) == []


def test_a_port_that_is_taken_is_named_with_its_variable(program: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (problem,) = program["taken_ports"]({"MLFLOW_PORT": str(port)}, "full")
    assert f"port {port} of 127.0.0.1, meant for MLflow, is taken" in problem
    assert "give MLFLOW_PORT another value in docker/.env" in problem
    assert list(program["taken_ports"]({"SCORER_PORT": str(port)}, "full")) == [], "it is free again"


@pytest.mark.parametrize(("profile", "told"), [("core", []), ("full", ["Grafana"])])
def test_a_port_matters_only_to_a_profile_that_opens_it(profile: str, told: list[str], program: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        given = {"GRAFANA_PORT": str(server.getsockname()[1])}
        problems = list(program["taken_ports"](given, profile))
    assert [who for problem in problems for who in program["PORTS"].values() if who in problem] == told


def test_an_unknown_profile_is_refused_with_those_there_are() -> None:
    command = [sys.executable, str(ROOT / "docker" / "preflight.py"), "--profile", "cor"]
    said = subprocess.run(command, capture_output=True, text=True)
    assert said.returncode == 2
    assert re.search("invalid choice: 'cor' .*core.*full", said.stderr)


@pytest.mark.parametrize(
    ("name", "value", "unfit"),
    [
        ("PREDICTIONS_DB_PASSWORD", "a@b%c", "% @"),
        ("MLFLOW_DB_PASSWORD", "a/b:c?d#e", "# / : ?"),
        ("GRAFANA_ADMIN_PASSWORD", "it's so", "' blanks"),
        ("AIRFLOW_ADMIN_PASSWORD", 'a"b\\c', '" \\'),
        ("SCORER_API_KEY", "a$b`c", "$ `"),
    ],
)
def test_a_secret_that_the_stack_would_misread_is_named_with_the_characters_alone(
    name: str, value: str, unfit: str, program: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / ".env.example").write_text(f"{name}=\nPORT=1\n")
    (tmp_path / ".env").write_text(f"{name}={value}\nPORT=1\n")
    (tmp_path / ".env").chmod(0o600)
    (problem,) = program["missing_secrets"](tmp_path)
    assert problem.startswith(f"{name}: ")
    assert f"(found {unfit})" in problem
    assert value not in problem


def test_random_secrets_and_keys_of_others_are_fit(program: dict[str, Any]) -> None:
    made = runpy.run_path(str(ROOT / "docker" / "make_env.py"))
    for name in ("PREDICTIONS_DB_PASSWORD", "AIRFLOW_FERNET_KEY"):
        assert program["unfit_characters"](name, made["value_for"](name)) == []
    assert program["unfit_characters"]("SCORER_API_KEY", "ab+/cd==:1") == []

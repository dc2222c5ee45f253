"""Preflight: problems that prevent the start of the stack are reported before any service starts."""

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
    (problem,) = program["check_secrets"](folder)
    assert problem.endswith(".env: file missing. Run: make secrets")


def test_a_secret_without_a_value_and_a_file_that_others_read(program: dict[str, Any], folder: Path) -> None:
    (folder / ".env").write_text("A_PASSWORD=\nB_KEY=x\nPORT=1\n")
    (folder / ".env").chmod(0o644)
    empty, open_to_all = program["check_secrets"](folder)
    assert "no value for A_PASSWORD. Run: make secrets" in empty
    assert f"chmod 600 {folder / '.env'}" in open_to_all
    (folder / ".env").write_text("A_PASSWORD=x\nB_KEY=x\nPORT=1\n")
    (folder / ".env").chmod(0o600)
    assert list(program["check_secrets"](folder)) == []


def test_a_port_that_is_taken_is_named_with_its_variable(program: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (problem,) = program["check_ports"]({"MLFLOW_PORT": str(port)}, "full")
    assert problem.startswith(f"MLFLOW_PORT: port {port} of 127.0.0.1 (MLflow) is in use")
    assert "set MLFLOW_PORT to another port in docker/.env" in problem
    assert list(program["check_ports"]({"SCORER_PORT": str(port)}, "full")) == [], "it is free again"


@pytest.mark.parametrize(("profile", "services"), [("core", []), ("full", ["Grafana"])])
def test_a_port_matters_only_to_a_profile_that_opens_it(
    profile: str, services: list[str], program: dict[str, Any]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        values = {"GRAFANA_PORT": str(server.getsockname()[1])}
        problems = list(program["check_ports"](values, profile))
    assert [name for problem in problems for name in program["PORTS"].values() if name in problem] == services


def test_an_unknown_profile_is_refused_with_those_there_are() -> None:
    command = [sys.executable, str(ROOT / "docker" / "preflight.py"), "--profile", "cor"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert re.search("invalid choice: 'cor' .*core.*full", ended.stderr)


@pytest.mark.parametrize(
    ("name", "value", "unsafe"),
    [
        ("PREDICTIONS_DB_PASSWORD", "a@b%c", "% @"),
        ("MLFLOW_DB_PASSWORD", "a/b:c?d#e", "# / : ?"),
        ("GRAFANA_ADMIN_PASSWORD", "it's so", "' blanks"),
        ("AIRFLOW_ADMIN_PASSWORD", 'a"b\\c', '" \\'),
        ("SCORER_API_KEY", "a$b`c", "$ `"),
    ],
)
def test_a_secret_that_the_stack_would_misread_is_named_with_the_characters_alone(
    name: str, value: str, unsafe: str, program: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / ".env.example").write_text(f"{name}=\nPORT=1\n")
    (tmp_path / ".env").write_text(f"{name}={value}\nPORT=1\n")
    (tmp_path / ".env").chmod(0o600)
    (problem,) = program["check_secrets"](tmp_path)
    assert problem.startswith(f"{name}: ")
    assert f"(found {unsafe})" in problem
    assert value not in problem


def test_random_secrets_and_keys_of_others_are_fit(program: dict[str, Any]) -> None:
    make_env = runpy.run_path(str(ROOT / "docker" / "make_env.py"))
    for name in ("PREDICTIONS_DB_PASSWORD", "AIRFLOW_FERNET_KEY"):
        assert program["list_unsafe_characters"](name, make_env["make_secret"](name)) == []
    assert program["list_unsafe_characters"]("SCORER_API_KEY", "ab+/cd==:1") == []

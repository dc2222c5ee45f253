"""Calls of the project by the DAGs: windows, options, commands that fail, hang or run twice."""

from __future__ import annotations

import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from drift.dags import project
from pipeline.config import parse_config, split_options
from prediction_log.window import parse_window
from stepkit.commands import quote_for_hydra
from tests.support.drift_results import make_result
from tests.support.servers import wait_until
from tests.support.small_data import compose_config

pytestmark = pytest.mark.slow

NOW = datetime(2026, 11, 24, 6, tzinfo=UTC)
DAY = (datetime(2026, 11, 22, 6, tzinfo=UTC), datetime(2026, 11, 23, 6, tzinfo=UTC))


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use this Python, and the defaults of Airflow variables."""
    monkeypatch.setattr(project, "get_variable", lambda name, default="": default)
    monkeypatch.setattr(project, "get_python", lambda: Path(sys.executable))
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))


def choose_window(**typed: Any) -> str:
    return project.choose_window(typed, *DAY, NOW)


def test_a_window_is_typed_or_the_data_interval_or_the_last_day() -> None:
    assert choose_window() == "log:?from=2026-11-22T06:00:00Z&to=2026-11-23T06:00:00Z"
    assert choose_window(rows=500) == "log:?rows=500"
    for nothing in (None, NOW):
        assert (
            project.choose_window({}, nothing, nothing, NOW) == "log:?from=2026-11-23T06:00:00Z&to=2026-11-24T06:00:00Z"
        )
    typed = choose_window(window_from="2026-11-01T00:00:00+01:00", window_to="2026-11-02T00:00:00Z")
    assert typed == "log:?from=2026-10-31T23:00:00Z&to=2026-11-02T00:00:00Z"
    assert parse_window(typed).start == datetime(2026, 10, 31, 23, tzinfo=UTC), "drift reads the same time"


@pytest.mark.parametrize(
    "typed",
    [
        {"window_from": "2026-11-01T00:00:00Z"},
        {"window_to": "2026-11-01T00:00:00Z"},
        {"window_from": "2026-11-02T00:00:00Z", "window_to": "2026-11-01T00:00:00Z"},
        {"window_from": "yesterday", "window_to": "today"},
    ],
)
def test_an_incomplete_or_reversed_window_is_rejected(typed: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"window|isoformat"):
        choose_window(**typed)


@pytest.mark.parametrize(
    "reason",
    ["drift_share, score_drift: 2 of 3", 'it\'s "x" {a: b} [c] #d, e=f', "50 % & more; ~", "${main.random_seed} a\\b"],
)
def test_a_reason_reaches_the_configuration_unchanged(reason: str) -> None:
    options = split_options(["--hydra_options", shlex.quote(f"main.because.reason={quote_for_hydra(reason)}")])
    assert parse_config(compose_config(*options)).main.because.reason == reason


def test_tasks_exchange_only_the_small_parts_of_a_result() -> None:
    assert (
        project.drop_details(make_result(columns=[{"column": "AGE"}] * 23, quality=[], details={"much": "more"}))
        == make_result()
    )


def test_a_failed_command_is_reported_with_its_last_lines() -> None:
    with pytest.raises(RuntimeError, match="exit status 3\nno server"):
        project._run_command([sys.executable, "-c", "import sys; print('no server'); sys.exit(3)"])


def test_a_command_gets_its_input_but_not_the_pythonpath_of_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/of/airflow")
    code = "import os, sys; print(sys.stdin.read(), os.environ.get('PYTHONPATH'))"
    assert project._run_command([sys.executable, "-c", code], text="hello") == "hello None\n"


def test_an_interrupted_command_stops_with_its_descendants_in_any_process_group() -> None:
    code = "import subprocess; subprocess.run(['sleep', '600'], start_new_session=True)"
    parent = psutil.Popen([sys.executable, "-c", code])
    wait_until(lambda: bool(parent.children()), "the child has started")
    tree = [parent, *parent.children()]
    project._stop_tree(parent.pid)
    assert psutil.wait_procs(tree, timeout=10)[1] == []


def test_a_second_command_waits_for_the_first_even_if_its_task_has_ended(tmp_path: Path) -> None:
    with project._hold_lock("report") as lock:
        first = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, pass_fds=[lock]
        )
    waiting = (
        "import sys; from drift.dags import project\nwith project._hold_lock('report'): print('my turn', flush=True)"
    )
    second = subprocess.Popen([sys.executable, "-c", waiting], stdout=subprocess.PIPE, text=True, cwd=project.ROOT)
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(1)
    first.communicate()
    assert second.communicate(timeout=30)[0] == "my turn\n"


def test_the_newest_request_is_the_reason() -> None:
    requests = [
        {"drift_run_id": "a", "reason": "old", "window": "w1"},
        {"drift_run_id": "b", "reason": "new", "window": "w2"},
    ]
    assert project.explain_retraining(requests, "by hand") == {"drift_run_id": "b", "reason": "new"}
    assert project.explain_retraining([], "by hand") == {"reason": "by hand"}

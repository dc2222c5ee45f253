"""The scorer as a process: limits, workers, and shutdown by every possible sender."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from prediction_log.read import read_log
from stepkit.processes import find_free_port
from tests.conftest import run_command
from tests.support.scoring_servers import (
    Server,
    make_log_url,
    read_logged_rows,
    read_metric,
    start_scorer,
    start_scorer_by_make,
    start_scorer_by_mlflow,
)
from tests.support.servers import wait_until
from tests.support.trained_champion import Champion

ROWS = 'scorer_rows_total{role="champion",version="1"}'
UNFINISHED = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
MODELS = 'scorer_model_workers{role="champion",version="1"}'


def test_limits_and_key(trained: Champion, tmp_path: Path) -> None:
    with start_scorer(tmp_path, trained.name, max_body_mb=1, env={"SCORER_API_KEY": "hush"}) as server:
        assert server.score(trained.split()).status_code == 401
        assert server.score(trained.split(), **{"X-API-Key": "wrong"}).status_code == 401
        assert server.score(trained.split(), Authorization="Bearer hush").status_code == 200
        schemes = ("bearer hush", "BEARER hush", "hush", "Basic hush", "Bearer")
        statuses = [server.get("/metrics", headers={"Authorization": scheme}).status_code for scheme in schemes]
        assert statuses == [200, 200, 401, 401, 401]
        large = server.post("/invocations", b" " * 3 * 2**20, **{"X-API-Key": "hush"})
        assert (large.status_code, large.json()["field"]) == (413, "body")
        assert server.score(trained.split(), **{"X-API-Key": "hush"}).status_code == 200
        # Starlette takes a path with a line feed at its end for the path itself
        locked = [server.get(path).status_code for path in ("/metrics", "/metrics%0A", "/nothing")]
        assert (set(locked), server.get("/ping").status_code) == ({401}, 200)
        body = json.dumps(trained.split()).encode()
        assert server.post("/invocations%0A", body).status_code == 401
        assert server.end() == 0


def test_a_body_that_is_announced_too_large_is_rejected_before_it_is_sent(trained: Champion, tmp_path: Path) -> None:
    with start_scorer(tmp_path, trained.name, max_body_mb=1) as server:
        for path in ("/invocations", "/feedback"):
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {2**21}"
            with server.connect() as client:
                client.sendall(f"{head}\r\n\r\n{{".encode())
                with client.makefile("rb") as answer:  # read to its end: the client is disconnected
                    assert answer.read().startswith(b"HTTP/1.1 413 "), path


def test_a_client_that_hangs_up_is_counted_and_not_recorded(trained: Champion, tmp_path: Path) -> None:
    with start_scorer(tmp_path, trained.name) as server:
        with server.connect() as client:
            client.sendall(UNFINISHED)
        counted = 'scorer_requests_total{path="/invocations",status="499"}'
        wait_until(lambda: read_metric(server, counted) == 1, "it is counted")
        assert read_metric(server, 'scorer_errors_total{kind="CLIENT_GONE"}') == 1
        assert server.health()["log"]["committed"] == 0


@pytest.fixture(scope="module")
def two_workers(versions: Champion, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start_scorer(tmp_path_factory.mktemp("two"), versions.name, workers=2) as server:
        wait_until(lambda: read_metric(server, MODELS) == 2, "both have a model")
        yield server


def test_two_workers_add_up(two_workers: Server, trained: Champion) -> None:
    for _ in range(40):
        assert two_workers.score(trained.split(2)).ok
    assert read_metric(two_workers, 'scorer_requests_total{path="/invocations",status="200"}') == 40
    assert read_metric(two_workers, ROWS) == 80
    assert read_metric(two_workers, 'scorer_score_count{version="1"}') == 80
    assert len(read_log(make_log_url(two_workers.folder))) == 80


def test_a_new_worker_answers_while_the_registry_is_locked(two_workers: Server, trained: Champion, store: str) -> None:
    first = two_workers.events("started")[0]["pid"]
    with closing(sqlite3.connect(store.removeprefix("sqlite:///"), isolation_level=None)) as registry:
        registry.execute("BEGIN EXCLUSIVE")
        os.kill(first, signal.SIGKILL)
        statuses: set[int] = set()

        def has_restarted() -> bool:
            statuses.add(two_workers.score(trained.split()).status_code)
            return len(two_workers.events("started")) == 3

        wait_until(has_restarted, "the worker that was killed has a successor")
        assert statuses == {200}
        statuses |= {two_workers.score(trained.split()).status_code for _ in range(20)}
        assert statuses == {200}
    assert two_workers.end() == 0


def test_what_was_accepted_is_answered_before_a_stop(trained: Champion, tmp_path: Path) -> None:
    with start_scorer(tmp_path, trained.name) as server, ThreadPoolExecutor(1) as pool:
        large = pool.submit(server.score, trained.split(20_000), **{"X-Request-Id": "last-one"})
        wait_until(lambda: has_request_arrived(server), "the request has arrived")
        assert server.end() == 0
        assert len(large.result().json()["predictions"]) == 20_000
    assert len(read_logged_rows(tmp_path, "last-one")) == 20_000


def has_request_arrived(server: Server) -> bool:
    # The request for the metrics is itself in progress.
    return read_metric(server, "scorer_requests_in_progress") >= 2 or read_metric(server, ROWS) > 0


def test_a_stop_while_it_starts_is_heeded(trained: Champion, tmp_path: Path) -> None:
    with start_scorer(tmp_path, trained.name, wait=False, cold=True) as server:
        wait_until(lambda: is_handling_sigterm(server.process.pid), "it has begun to start")
        assert server.end() == 0
        assert "Traceback" not in server.output.read_text()


def test_a_stop_that_falls_into_a_generated_function_is_no_death_by_a_signal() -> None:
    """Dataclasses use exec(): after a KeyboardInterrupt there Python ends by SIGINT, even if it was handled."""
    stop = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    port = find_free_port()
    code = f"from serve import run; run._listen = lambda settings: exec({stop!r}); run.main(['--port', '{port}'])"
    assert run_command(sys.executable, "-c", code).returncode == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_that_falls_into_a_destructor_is_heeded(workers: int, tmp_path: Path) -> None:
    """Python drops a KeyboardInterrupt that is raised in a destructor, for example during an import."""
    code = (
        "import os, signal\nfrom serve import run\n"
        "class Dropped:\n    def __del__(self): os.kill(os.getpid(), signal.SIGTERM)\n"
        "run.verify_port_is_free = lambda *_: Dropped() and None\n"
        f"run.main(['--port', '{find_free_port()}', '--workers', '{workers}', '--log_url', '{make_log_url(tmp_path)}'])"
    )
    ended = run_command(sys.executable, "-c", code, timeout=100)
    assert "Exception ignored in" in ended.stderr, "the test loses no interrupt"
    assert ended.returncode == 0


def is_handling_sigterm(pid: int) -> bool:
    """Return True if the process has installed a handler for SIGTERM, according to Linux."""
    (caught,) = re.findall(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize(("workers", "how"), [(1, signal.SIGTERM), (2, signal.SIGKILL)])
def test_the_scorer_ends_in_order_when_its_mlflow_run_is_ended(
    trained: Champion, tmp_path: Path, workers: int, how: signal.Signals
) -> None:
    with start_scorer_by_mlflow(tmp_path, trained.name, workers=workers) as server:
        wait_until(lambda: len(server.events("model_taken")) == workers, "every worker has a model")
        assert server.score(trained.split()).ok
        running = psutil.Process(server.process.pid).children(recursive=True)
        os.kill(server.process.pid, how)
        wait_until(lambda: not any(is_alive(process) for process in running), "every process has ended")
        assert len(server.events("stopped")) == workers
    assert len(read_log(make_log_url(tmp_path))) == 1


def test_make_serve_starts_the_scorer_itself_which_ends_in_order(trained: Champion, tmp_path: Path) -> None:
    folder = tmp_path / "a&b"  # as an address of PostgreSQL may have it, between its parameters
    folder.mkdir()
    with start_scorer_by_make(folder, trained.name, redact="AGE,SEX") as server:
        assert server.score(trained.split()).ok
        (started,) = psutil.Process(server.process.pid).children(recursive=True)
        os.kill(server.process.pid, signal.SIGTERM)
        wait_until(lambda: not is_alive(started), "the scorer has ended")
        assert len(server.events("stopped")) == 1
    rows = read_log(make_log_url(folder))
    assert len(rows) == 1
    assert rows[["AGE", "SEX"]].isna().all(axis=None)


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)  # an orphan that no parent waits for stays a zombie
    except psutil.NoSuchProcess:
        return False


def test_workers_whose_supervisor_is_killed_answer_what_they_accepted_and_end(
    trained: Champion, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with (
        start_scorer(tmp_path, trained.name, workers=2, env={"TMPDIR": str(scratch)}) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        wait_until(lambda: len(server.events("model_taken")) == 2, "both workers have a model")
        workers = psutil.Process(server.process.pid).children(recursive=True)
        large = pool.submit(server.score, trained.split(20_000), **{"X-Request-Id": "last-one"})
        wait_until(lambda: has_request_arrived(server), "the request has arrived")
        os.kill(server.process.pid, signal.SIGKILL)
        assert len(large.result().json()["predictions"]) == 20_000
        wait_until(lambda: not any(is_alive(process) for process in workers), "both workers have ended")
        assert [len(server.events(event)) for event in ("parent_gone", "stopped")] == [2, 2]
    assert len(read_logged_rows(tmp_path, "last-one")) == 20_000
    assert list(scratch.glob("scorer-*")) == []

"""Real scoring servers for tests: the scorer and MLflow's own server, each in its own process on a free port."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import requests

from pipeline.launch.forkserver import WarmProcess, warm_up
from prediction_log.read import read_log
from stepkit.paths import ROOT
from stepkit.processes import find_free_port
from tests.conftest import make_command_env
from tests.support.servers import wait_until


class Server:
    """Server process with its child processes; its output is written to a file."""

    def __init__(self, process: subprocess.Popen[bytes] | WarmProcess, output: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.output = output
        self.folder = output.parent
        self.process = process

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=30, **options)

    def post(self, path: str, body: bytes, kind: str | None = "application/json", **headers: str) -> requests.Response:
        all_headers = {**headers, **({"Content-Type": kind} if kind is not None else {})}
        return requests.post(self.url + path, data=body, headers=all_headers, timeout=60)

    def score(self, request: Any, **headers: str) -> requests.Response:
        return self.post("/invocations", json.dumps(request).encode(), **headers)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def is_ready(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"ended with {self.process.poll()}: {self.output.read_text()[-2000:]}")
        try:
            return self.get("/ping").ok
        except requests.ConnectionError:
            return False

    def has_logged(self, event: str) -> bool:
        """Return whether the scorer has logged an event and responds; its follower may log before it responds."""
        with suppress(requests.ConnectionError):
            return self.get("/ping") is not None and bool(self.events(event))
        return False

    def health(self) -> dict[str, Any]:
        state: dict[str, Any] = self.get("/health").json()
        return state

    def serves(self, version: str) -> bool:
        model = self.health()["model"]
        return bool(model) and model["version"] == version

    def events(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of the structured log with this event."""
        lines = [json.loads(line) for line in self.output.read_text().splitlines() if line.startswith('{"time"')]
        return [line for line in lines if line["event"] == event]

    def end(self) -> int | None:
        """Send SIGTERM and return the exit status."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGTERM)
        try:
            return self.process.wait(30)
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill the remaining processes of its group."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)


@contextmanager
def _run_server(
    command: list[str], cwd: Path, output: Path, port: int, wait: bool = True, **env: str
) -> Iterator[Server]:
    """Start a command in its own process group and yield it when it responds; end it after the block."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=cwd, stdout=file, stderr=file, start_new_session=True, env=make_command_env(**env)
        )
    with _end_on_exit(process, output, port, wait) as server:
        yield server


@contextmanager
def _end_on_exit(
    process: subprocess.Popen[bytes] | WarmProcess, output: Path, port: int, wait: bool = True
) -> Iterator[Server]:
    server = Server(process, output, port)
    try:
        if wait:
            wait_until(server.is_ready, f"the server answers; see {output}")
        yield server
    finally:
        server.kill()


def _make_settings(folder: Path, model: str, port: int, chosen: dict[str, Any]) -> dict[str, Any]:
    return {"model_name": model, "port": port, "poll_seconds": 0.2, "log_url": make_log_url(folder), **chosen}


@contextmanager
def start_scorer(
    folder: Path, model: str, *, wait: bool = True, cold: bool = False, env: dict[str, str] | None = None, **flags: Any
) -> Iterator[Server]:
    """Run serve/run.py as `mlflow run ./serve` does; its prediction log is predictions.db in `folder`.

    It is forked from a process that has loaded the libraries, like a pipeline's steps, which saves the seconds of
    importing MLflow. `cold` starts `python run.py` instead, for tests of the start. Several workers need that too,
    because they start from the scorer's own command.
    """
    port = find_free_port()
    output = folder / f"scorer-{port}.log"
    words = [
        word for key, value in _make_settings(folder, model, port, flags).items() for word in (f"--{key}", str(value))
    ]
    if cold or "workers" in flags:
        command = [sys.executable, "-P", "run.py", *words]
        with _run_server(command, ROOT / "serve", output, port, wait, PYTHONPATH="..", **(env or {})) as server:
            yield server
    else:
        warm_up()
        output.touch()
        process = WarmProcess(words, str(ROOT / "serve"), make_command_env(**(env or {})), output)
        with _end_on_exit(process, output, port, wait) as server:
            yield server


@contextmanager
def start_scorer_by_mlflow(folder: Path, model: str, **parameters: Any) -> Iterator[Server]:
    """Start `mlflow run ./serve`; the server's process is `mlflow run`."""
    port = find_free_port()
    options = [f"-P{key}={value}" for key, value in _make_settings(folder, model, port, parameters).items()]
    command = [sys.executable, "-m", "mlflow", "run", str(ROOT / "serve"), "--env-manager", "local", *options]
    with _run_server(command, folder, folder / f"mlflow-run-{port}.log", port) as server:
        yield server


@contextmanager
def start_scorer_by_make(folder: Path, model: str, **options: Any) -> Iterator[Server]:
    """Start `make serve` without the installation before it; the server's process is make."""
    port = find_free_port()
    typed = " ".join(f"{key}={value}" for key, value in _make_settings(folder, model, port, options).items())
    command = ["make", "--old-file=.venv/run.stamp", "serve", f"options={typed}"]
    with _run_server(command, ROOT, folder / f"make-{port}.log", port) as server:
        yield server


@contextmanager
def start_stock_server(folder: Path, model_uri: str) -> Iterator[Server]:
    """Start `mlflow models serve`."""
    port = find_free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model_uri, "--env-manager", "local"]
    command += ["--port", str(port), "--host", "127.0.0.1"]
    with _run_server(command, folder, folder / f"stock-{port}.log", port) as server:
        yield server


def make_log_url(folder: Path) -> str:
    return f"sqlite:///{folder / 'predictions.db'}"


def read_logged_rows(folder: Path, request_id: str) -> pd.DataFrame:
    """Return the logged rows of one request to a scorer in `folder`, including the shadow's rows."""
    everything = read_log(make_log_url(folder), shadow=None)
    return everything[everything["request_id"] == request_id].sort_values("row").reset_index(drop=True)


def read_metric(server: Server, name: str) -> float:
    """Return a metric by its name and labels as in /metrics; 0 if the metric does not exist yet."""
    lines = [line for line in server.get("/metrics").text.splitlines() if line.startswith(f"{name} ")]
    return float(lines[0].rpartition(" ")[2]) if lines else 0.0

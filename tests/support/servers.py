"""Real servers for tests on free ports: PostgreSQL, `mlflow server` and HTTP. Each is a context manager."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import psycopg
import pytest
import requests

from stepkit.processes import find_free_port

POSTGRES_USER = "tester"
SECONDS_TO_START = 300.0
IMPATIENT = {"MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0", "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0"}
"""For a command whose server fails it: MLflow asks as often as ever, without the longer and longer pauses."""


def wait_until(condition: Callable[[], bool], description: str, seconds: float = SECONDS_TO_START) -> None:
    """Wait for a condition, checked ten times a second; fail with `description` if it stays false."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds:g} s in vain for: {description}")
        time.sleep(0.1)


def find_postgres_binary(name: str) -> str:
    """Return the path of a PostgreSQL program; skip the test with a reason if it is missing."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    path = str(debian[0]) if debian else shutil.which(name)
    if not path:
        pytest.skip(f"no PostgreSQL on this machine: '{name}' is neither on PATH nor in /usr/lib/postgresql")
    return path


class _WaitsForItsThreads(ThreadingHTTPServer):
    daemon_threads = False  # so that no request outlives the test


class LoopbackServer:
    """HTTP server in a thread of this process on a free port, as a context manager."""

    def __init__(self, handler: type[BaseHTTPRequestHandler], port: int = 0) -> None:
        self._server = _WaitsForItsThreads(("127.0.0.1", port), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def start_postgres() -> Iterator[str]:
    """Start a separate PostgreSQL server and yield the URI of an empty database."""
    initdb, server = find_postgres_binary("initdb"), find_postgres_binary("postgres")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    owner = _make_unprivileged(folder)
    data, port = folder / "data", find_free_port()
    subprocess.run(
        [initdb, "-D", data, "-U", POSTGRES_USER, "--auth=trust", "--no-sync"],
        check=True, capture_output=True, cwd=folder, user=owner,
    )  # fmt: skip
    options = ["-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-F"]
    process = subprocess.Popen(
        [server, *options], cwd=folder, user=owner, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    uri = f"postgresql://{POSTGRES_USER}@127.0.0.1:{port}/postgres"
    try:
        wait_until(lambda: _is_answering(uri), "PostgreSQL accepts connections")
        yield uri
    finally:
        process.send_signal(signal.SIGINT)  # PostgreSQL's "fast shutdown", which disconnects clients
        process.wait(30)
        shutil.rmtree(folder)


def _make_unprivileged(folder: Path) -> str | int | None:
    """Give the folder to another account and return that account, because PostgreSQL does not run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    owner = "postgres" if "postgres" in names else "nobody"
    shutil.chown(folder, owner)
    return owner


def _is_answering(uri: str) -> bool:
    try:
        psycopg.connect(uri).close()
    except psycopg.OperationalError:
        return False
    return True


class MlflowServer:
    """Real `mlflow server` in its own process group, which can be stopped and started again on its port."""

    def __init__(self, backend_uri: str, folder: Path, *options: str, under: tuple[str, ...] = (), **env: str) -> None:
        self.folder = folder
        self.port = find_free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        stored = ["--backend-store-uri", backend_uri, "--artifacts-destination", str(folder / "served")]
        address = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        self.command = [*under, sys.executable, "-m", "mlflow", "server", *stored, *address, *options]
        self.env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **env}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, cwd=self.folder, start_new_session=True, env=self.env
            )
        wait_until(self.answers, f"mlflow server at {self.uri}")

    def answers(self) -> bool:
        try:
            return requests.get(f"{self.uri}/health", timeout=2).ok
        except requests.RequestException:
            return False

    def stop(self) -> None:
        if self.process:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(30)
            self.process = None


@contextmanager
def start_mlflow_server(
    backend_uri: str, folder: Path, *options: str, under: tuple[str, ...] = (), **env: str
) -> Iterator[MlflowServer]:
    """Start `mlflow server` with additional options and variables; `under` is a wrapper command such as prlimit."""
    server = MlflowServer(backend_uri, folder, *options, under=under, **env)
    try:
        server.start()
        yield server
    finally:
        server.stop()

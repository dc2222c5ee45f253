"""Stack without a container engine: each service as a process, started in the order of the compose file."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from stepkit.paths import ROOT
from tests.stack.sandbox import Sandbox, network_of
from tests.stack.services import Service, services
from tests.support.servers import find_postgres_binary

SECONDS_TO_HEALTH = 240.0
DATA = "/var/lib/postgresql/data"
POSTGRES_ACCOUNT = "postgres"


def filled_env(folder: Path, **values: str) -> Path:
    """Write an environment file like `make secrets`, with some values replaced, and return its path."""
    module = runpy.run_path(str(ROOT / "docker" / "make_env.py"))
    shutil.copy(ROOT / "docker" / ".env.example", folder)
    module["main"](folder)
    path = folder / ".env"
    path.write_text(path.read_text() + "".join(f"{name}={value}\n" for name, value in values.items()))
    return path


def secrets_of(env_file: Path) -> dict[str, str]:
    """Return the values of an environment file by name."""
    parse_assignments = runpy.run_path(str(ROOT / "docker" / "make_env.py"))["parse_assignments"]
    values: dict[str, str] = parse_assignments(env_file.read_text())
    return values


class Stack:
    """Services of docker/compose.yaml as processes."""

    def __init__(self, folder: Path, **values: str) -> None:
        self.folder = folder
        self.env_file = filled_env(folder, **values)
        self.secrets = secrets_of(self.env_file)
        self.services = services(self.env_file)
        self.sandbox = Sandbox(folder, list(self.services))
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def up(self, *names: str) -> None:
        """Start services after their dependencies. Each waits until those are healthy or finished."""
        for name in names:
            self._up(name)

    def _up(self, name: str) -> None:
        if name in self.running:
            return
        for dependency, rule in self.services[name].definition.get("depends_on", {}).items():
            self._up(dependency)
            self._wait(dependency, rule["condition"])
        self.start(name)

    def start(self, name: str) -> None:
        service = self.services[name]
        if name == "postgres":
            self._prepare_postgres(service)
            self.running[name] = self._launch(service, [*_server(), *service.command[1:]])
        else:
            self.running[name] = self._launch(service, service.command)

    def _launch(self, service: Service, command: list[str]) -> subprocess.Popen[bytes]:
        with self.log(service.name).open("ab") as output:
            return self.sandbox.start(service, command, output)

    def _wait(self, name: str, condition: str) -> None:
        if condition == "service_completed_successfully":
            status = self.running[name].wait(SECONDS_TO_HEALTH)
            assert status == 0, f"{name} ended with {status}: {self.said(name)[-2000:]}"
        else:
            self.wait_healthy(name)

    def wait_healthy(self, name: str) -> None:
        """Repeat the health check of a service until it succeeds."""
        end = time.monotonic() + SECONDS_TO_HEALTH
        while not self.healthy(name):
            assert self.running[name].poll() is None, f"{name} ended: {self.said(name)[-3000:]}"
            if time.monotonic() > end:
                pytest.fail(f"{name} did not become healthy: {self.said(name)[-3000:]}")
            time.sleep(1)

    def healthy(self, name: str) -> bool:
        kind, *words = self.services[name].definition["healthcheck"]["test"]
        command = ["sh", "-c", words[0]] if kind == "CMD-SHELL" else words
        return self.run(name, command).returncode == 0

    def run(self, name: str, command: list[str], timeout: float = 300, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command like `docker compose run`, in the sandbox and under the account of a service."""
        with tempfile.TemporaryFile() as output:
            process = self.sandbox.start(self.services[name], command, output, **env)
            try:
                process.wait(timeout)
            finally:
                stop_process(process)
            output.seek(0)
            return subprocess.CompletedProcess(command, process.returncode, output.read().decode(errors="replace"))

    def stop(self, name: str) -> int:
        """Stop a service with SIGTERM, as an engine does, and return its exit status."""
        return stop_process(self.running.pop(name), psutil.Process.terminate)

    def lasting(self) -> list[str]:
        """Return the running services in the order of their start."""
        return [name for name, process in self.running.items() if process.poll() is None]

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def said(self, name: str) -> str:
        return self.log(name).read_text(errors="replace")

    def get(self, url: str, **options: Any) -> requests.Response:
        return self.ask("GET", url, **options)

    def ask(self, method: str, url: str, **options: Any) -> requests.Response:
        """Send a request from inside the network of the stack."""
        with self.inside():
            return requests.request(method, url, timeout=60, **options)

    @contextmanager
    def inside(self) -> Iterator[None]:
        with network_of(self.sandbox.pid):
            yield

    def _prepare_postgres(self, service: Service) -> None:
        """Initialize a new data folder like the entry point of PostgreSQL's image, and run its script."""
        self._as_postgres(service, ["mkdir", "-p", f"{DATA}"], "root")
        self._as_postgres(service, ["chown", POSTGRES_ACCOUNT, DATA], "root")
        if self._as_postgres(service, ["test", "-e", f"{DATA}/PG_VERSION"], check=False).returncode == 0:
            return
        words = "--no-sync -E UTF8 --locale=C.UTF-8 -U postgres --auth-local=trust --auth-host=scram-sha-256"
        init = f"{find_postgres_binary('initdb')} {words} --pwfile=/tmp/password -D {DATA}"
        self._as_postgres(service, ["sh", "-c", f'printf %s "$POSTGRES_PASSWORD" > /tmp/password; exec {init}'])
        control = f"{find_postgres_binary('pg_ctl')} -D {DATA} -w -s"
        script = "/docker-entrypoint-initdb.d/databases.sh"
        start = f"{control} -o '-h \"\"' start"
        first = f"{start}; PGHOST=/var/run/postgresql {script}; status=$?; {control} stop; exit $status"
        self._as_postgres(service, ["sh", "-c", first])

    def _as_postgres(
        self, service: Service, command: list[str], user: str = POSTGRES_ACCOUNT, check: bool = True
    ) -> subprocess.CompletedProcess[bytes]:
        with self.log("postgres").open("ab") as output:
            process = self.sandbox.start_as(service, user, command, output)
        result: subprocess.CompletedProcess[bytes] = subprocess.CompletedProcess(command, process.wait(120))
        assert not check or result.returncode == 0, self.said("postgres")
        return result


def _server() -> list[str]:
    """Return the command of the server. It listens on all addresses, as in PostgreSQL's image."""
    return [find_postgres_binary("postgres"), "-D", DATA, "-c", "listen_addresses=*", "-F"]


def stop_process(process: subprocess.Popen[bytes], by: Callable[[psutil.Process], None] = psutil.Process.kill) -> int:
    """Stop a process of the sandbox. Its parent nsenter, which is visible here, returns its exit status."""
    if process.poll() is None:
        for service in psutil.Process(process.pid).children():
            by(service)
    return process.wait(60)


@contextmanager
def stack(folder: Path, **values: str) -> Iterator[Stack]:
    running = Stack(folder, **values)
    try:
        yield running
    finally:
        running.sandbox.end()

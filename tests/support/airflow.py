"""A real Airflow for tests, with its own environment, folder, database and scheduler."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil

from drift import airflow_standalone
from loop.airflow_client import Scheduler
from loop.scenario import fetch
from stepkit.paths import ROOT
from stepkit.processes import find_free_port, start_in_session
from tests.support.servers import wait_until

PYTHON = ROOT / ".venv-airflow" / "bin" / "python"
PATIENCE = 900.0


class Airflow:
    """Airflow in the folder of a test, set up like `make airflow`, with additional environment variables."""

    def __init__(self, folder: Path, **env: str) -> None:
        assert PYTHON.is_file(), "no Airflow: type make .venv-airflow/stamp"
        self.folder = folder
        self.port = find_free_port()
        programs = f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}"
        self.env = {**airflow_standalone.build_environment(folder, self.port), "PATH": programs, **env}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run `airflow WORDS` to its end."""
        return subprocess.run(
            [str(PYTHON.with_name("airflow")), *words], cwd=self.folder, env={**self.env, **env}, text=True,
            capture_output=True, timeout=PATIENCE,
        )  # fmt: skip

    def test(self, dag: str, conf: dict[str, Any], **env: str) -> subprocess.CompletedProcess[str]:
        return self.run("dags", "test", dag, "--conf", json.dumps(conf), **env)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query on Airflow's database; changes are committed."""
        with closing(sqlite3.connect(self.folder / "airflow.db")) as database, database:
            return database.execute(query).fetchall()

    def start(self, part: str) -> None:
        command = [str(PYTHON.with_name("airflow")), part]
        self._processes[part] = start_in_session(command, self.folder / f"{part}.log", self.env, self.folder)

    def api(self) -> Scheduler:
        """Start the API and log in."""
        self.start("api-server")
        address = f"http://127.0.0.1:{self.port}"
        wait_until(lambda: fetch(f"{address}/api/v2/version"), f"Airflow's API; see {self.folder}", PATIENCE)
        passwords = json.loads((self.folder / airflow_standalone.PASSWORDS_NAME).read_text())
        return Scheduler(address, airflow_standalone.USER, passwords[airflow_standalone.USER])

    def commands(self, part: str) -> list[str]:
        """Return the command lines of all processes in the session of a part."""
        commands = []
        for process in airflow_standalone.list_session(self._processes[part].pid):
            with suppress(psutil.Error):  # the process has ended in the meantime
                commands.append(" ".join(process.cmdline()))
        return commands

    def kill(self, part: str) -> None:
        """Kill a part and all its child processes, as a power failure would."""
        for process in airflow_standalone.list_session(self._processes[part].pid):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        self._processes.pop(part).wait(10)

    def end(self) -> None:
        for part in list(self._processes):
            self.kill(part)

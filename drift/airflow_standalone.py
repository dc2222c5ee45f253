"""Airflow on this machine, as one process to start and to end: `airflow standalone` with the DAGs of drift/dags.

Runs with Airflow's own Python: .venv-airflow/bin/python -P drift/airflow_standalone.py --port 8080. It keeps everything
(SQLite, logs, the password) in one folder, .airflow. Ctrl-C, SIGTERM and the end of its parent end all of it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # last: no folder of the project takes the place of a package of Airflow's

from stepkit.processes import (  # noqa: E402
    end_with_parent,
    free_port,
    ignore_signals,
    interrupt_on_signals,
    start_in_session,
)

USER = "admin"
SECONDS_TO_START = 300.0
SECONDS_TO_END = 15.0
LAST_LINES = 20


def environment(home: Path, port: int) -> dict[str, str]:
    """The environment of Airflow: this one, and above it what is not left to Airflow's defaults."""
    address = f"http://127.0.0.1:{port}"
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    log_servers = [str(free_port()) for _ in range(2)]
    ours = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "drift" / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": address,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": log_servers[0],
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": log_servers[1],
        # a task whose process is gone is begun again after this; Airflow's own patience is five minutes
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "120",
        # on a busy machine the API may take longer than Airflow's five seconds
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    # what is set outside counts, except for what makes this Airflow one of its own
    chosen = {name: os.environ.get(name, value) for name, value in ours.items() if name.startswith("AIRFLOW__")}
    return {**os.environ, **ours, **chosen, "PATH": programs}


def is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


class Standalone:
    """`airflow standalone` in a session of its own, by which all that it starts can be found again."""

    def __init__(self, home: Path, port: int) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.address = f"http://127.0.0.1:{port}"
        self.log = home / "standalone.log"
        self._passwords = home / "simple_auth_manager_passwords.json.generated"
        self.log.unlink(missing_ok=True)
        self.process = start_in_session(["airflow", "standalone"], self.log, environment(home, port), home)

    @property
    def password(self) -> str:
        return str(json.loads(self._passwords.read_text(encoding="utf-8"))[USER])

    def is_ready(self) -> bool:
        """Whether scheduler, DAG processor and API answer."""
        with (
            suppress(OSError, ValueError, KeyError),
            urllib.request.urlopen(f"{self.address}/api/v2/monitor/health", timeout=5) as answer,
        ):
            state = json.load(answer)
            return all(state[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "dag_processor"))
        return False

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def end(self) -> None:
        """End Airflow and every process of its session: a task in the middle of its work too."""
        if not self.has_ended():
            self.process.send_signal(signal.SIGINT)  # after a SIGTERM it would leave its parts alone
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(SECONDS_TO_END)
        for send in (psutil.Process.terminate, psutil.Process.kill):
            rest = self._rest()
            for one in rest:
                with suppress(psutil.NoSuchProcess):
                    send(one)
            psutil.wait_procs(rest, timeout=SECONDS_TO_END / 3)
        self.process.wait()

    def _rest(self) -> list[psutil.Process]:
        found = []
        for one in psutil.process_iter():
            with suppress(OSError):
                if os.getsid(one.pid) == self.process.pid and one.pid != self.process.pid:
                    found.append(one)
        return found if self.has_ended() else [*found, psutil.Process(self.process.pid)]


def watch(airflow: Standalone) -> int:
    """Say where Airflow is once it is ready, and wait for its end."""
    end = time.monotonic() + SECONDS_TO_START
    while not airflow.is_ready():
        if airflow.has_ended() or time.monotonic() > end:
            return complain(airflow)
        time.sleep(0.5)
    print(f"Airflow    {airflow.address}", f"user       {USER}", f"password   {airflow.password}", sep="\n")
    print(f"log        {airflow.log}\nCtrl-C ends everything.", flush=True)
    airflow.process.wait()
    return complain(airflow)


def complain(airflow: Standalone) -> int:
    last = "\n".join(airflow.log.read_text(errors="replace").splitlines()[-LAST_LINES:])
    print(f"{last}\n\nAirflow does not run. Its whole output: {airflow.log}", file=sys.stderr)
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8080, help="port of Airflow's pages and API")
    parser.add_argument("--home", type=Path, default=ROOT / ".airflow", help="folder for everything that it keeps")
    args = parser.parse_args()
    if is_taken(args.port):
        print(f"port {args.port} is taken. Name another: make airflow port=8090", file=sys.stderr)
        return 2
    interrupt_on_signals()
    end_with_parent()
    airflow = Standalone(args.home.resolve(), args.port)
    try:
        return watch(airflow)
    except KeyboardInterrupt:
        return 0
    finally:
        ignore_signals()
        airflow.end()


if __name__ == "__main__":
    sys.exit(main())

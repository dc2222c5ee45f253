"""Airflow on this machine, as one process to start and to end: `airflow standalone` with the DAGs of drift/dags.

Runs with Airflow's own Python: .venv-airflow/bin/python -P drift/airflow_standalone.py --port 8080. It keeps everything
(SQLite, logs, the password) in one folder, .airflow. Ctrl-C, SIGTERM and the end of its parent end all of it.
"""

from __future__ import annotations

import argparse
import json
import os
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
    find_free_port,
    ignore_signals,
    interrupt_on_signals,
    start_in_session,
)

USER = "admin"
LOG_NAME, PASSWORDS_NAME = "standalone.log", "simple_auth_manager_passwords.json.generated"
SECONDS_TO_START = 300.0
SECONDS_TO_STOP = 15.0
LAST_LINES = 20


def build_environment(home: Path, port: int) -> dict[str, str]:
    """Return the environment of Airflow: what is set outside counts, except for what makes this Airflow its own."""
    address = f"http://127.0.0.1:{port}"
    defaults = {
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
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(find_free_port()),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(find_free_port()),
        # a task whose process is gone is begun again after this; Airflow's own patience is five minutes
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "120",
        # on a busy machine the API may take longer than Airflow's five seconds
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    ours = {"AIRFLOW_HOME": str(home), "MLFLOW_DISABLE_TELEMETRY": "true", "PATH": programs}
    return {**defaults, **os.environ, **ours}


def is_port_taken(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return True
    return False


def list_session(leader: int) -> list[psutil.Process]:
    """Return every process of the session that a process began, also where that has ended."""
    found = []
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == leader:
                found.append(process)
    return found


def stop_session(leader: int) -> None:
    """End every process of a session, a task in the middle of its work too."""
    for send in (psutil.Process.terminate, psutil.Process.kill):
        left = list_session(leader)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                send(process)
        psutil.wait_procs(left, timeout=SECONDS_TO_STOP)


def is_ready(address: str) -> bool:
    """Return whether scheduler, DAG processor and API answer."""
    with (
        suppress(OSError, ValueError, KeyError),
        urllib.request.urlopen(f"{address}/api/v2/monitor/health", timeout=5) as answer,
    ):
        state = json.load(answer)
        return all(state[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "dag_processor"))
    return False


def wait_for_airflow(airflow: subprocess.Popen[bytes], address: str, home: Path) -> None:
    """Print where Airflow is once it is ready, and wait for its end."""
    log, end = home / LOG_NAME, time.monotonic() + SECONDS_TO_START
    while airflow.poll() is None and time.monotonic() < end:
        if is_ready(address):
            password = json.loads((home / PASSWORDS_NAME).read_text(encoding="utf-8"))[USER]
            print(f"Airflow    {address}", f"user       {USER}", f"password   {password}", sep="\n")
            print(f"log        {log}\nCtrl-C ends everything.", flush=True)
            airflow.wait()
        time.sleep(0.5)
    last = "\n".join(log.read_text(errors="replace").splitlines()[-LAST_LINES:])
    print(f"{last}\n\nAirflow does not run. Its whole output: {log}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8080, help="port of Airflow's pages and API")
    parser.add_argument("--home", type=Path, default=ROOT / ".airflow", help="folder for everything that it keeps")
    args = parser.parse_args()
    if is_port_taken(args.port):
        print(f"port {args.port} is taken. Name another: make airflow port=8090", file=sys.stderr)
        return 2
    interrupt_on_signals()
    end_with_parent()
    home = args.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    (home / LOG_NAME).unlink(missing_ok=True)
    airflow = start_in_session(["airflow", "standalone"], home / LOG_NAME, build_environment(home, args.port), home)
    try:
        wait_for_airflow(airflow, f"http://127.0.0.1:{args.port}", home)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        ignore_signals()
        stop_session(airflow.pid)
        airflow.wait()


if __name__ == "__main__":
    sys.exit(main())

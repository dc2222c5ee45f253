"""Run Airflow on this machine as one process: `airflow standalone` with the DAGs in drift/dags.

Needs the Python of Airflow: .venv-airflow/bin/python -P drift/airflow_standalone.py --port 8080. All files (SQLite,
logs, password) are in one folder, .airflow. Ctrl-C, SIGTERM or the end of the parent process stops everything.
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
sys.path.append(str(ROOT))  # appended last, so that no folder of the project hides a package of Airflow

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
    """Return the environment of Airflow. Variables that are set already win, except AIRFLOW_HOME and PATH."""
    url = f"http://127.0.0.1:{port}"
    defaults = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "drift" / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(find_free_port()),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(find_free_port()),
        # Seconds until a task whose process has ended is restarted. Airflow's default is 300.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "120",
        # On a busy machine the API may need longer than Airflow's default of 5 seconds.
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    required = {"AIRFLOW_HOME": str(home), "MLFLOW_DISABLE_TELEMETRY": "true", "PATH": programs}
    return {**defaults, **os.environ, **required}


def is_port_taken(port: int) -> bool:
    """Return True if a process listens on the port."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return True
    return False


def list_session(leader: int) -> list[psutil.Process]:
    """Return the processes of a session, even if its leader has ended."""
    processes = []
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == leader:
                processes.append(process)
    return processes


def stop_session(leader: int) -> None:
    """Stop every process of a session, including running tasks."""
    for send in (psutil.Process.terminate, psutil.Process.kill):
        processes = list_session(leader)
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                send(process)
        psutil.wait_procs(processes, timeout=SECONDS_TO_STOP)


def is_ready(url: str) -> bool:
    """Return True if the API responds and scheduler and DAG processor are healthy."""
    with (
        suppress(OSError, ValueError, KeyError),
        urllib.request.urlopen(f"{url}/api/v2/monitor/health", timeout=5) as response,
    ):
        state = json.load(response)
        return all(state[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "dag_processor"))
    return False


def wait_for_airflow(airflow: subprocess.Popen[bytes], url: str, home: Path) -> None:
    """Print URL, user and password once Airflow is ready, and wait until it ends."""
    log, end = home / LOG_NAME, time.monotonic() + SECONDS_TO_START
    while airflow.poll() is None and time.monotonic() < end:
        if is_ready(url):
            password = json.loads((home / PASSWORDS_NAME).read_text(encoding="utf-8"))[USER]
            print(f"Airflow    {url}", f"user       {USER}", f"password   {password}", sep="\n")
            print(f"log        {log}\nPress Ctrl-C to stop everything.", flush=True)
            airflow.wait()
        time.sleep(0.5)
    last = "\n".join(log.read_text(errors="replace").splitlines()[-LAST_LINES:])
    print(f"{last}\n\nAirflow: not running. Full output: {log}", file=sys.stderr)


def main() -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8080, help="port of the web UI and API")
    parser.add_argument(
        "--home", type=Path, default=ROOT / ".airflow", help="folder for the database, logs and password"
    )
    args = parser.parse_args()
    if is_port_taken(args.port):
        print(f"--port: {args.port} is in use. Set another: make airflow port=8090", file=sys.stderr)
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

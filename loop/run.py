"""make loop: train, serve, drift, alert, retrain, swap and all-clear on this machine, with the real parts.

The parts are an MLflow server, the scorer, Airflow and a receiver of webhooks. They use free ports and a temporary
folder, so mlflow.db, predictions.db and .airflow of this repository do not change. The command prints a line per act,
and PASS or the act that failed. It stops all processes that it started.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from mlflow import MlflowClient
from rich.console import Console

from loop.polling import StoryFailed, wait_for
from loop.processes import Processes
from loop.scenario import ACTS, MLFLOW, ROWS, Stage, fetch
from loop.webhook_receiver import Receiver
from stepkit.errors import StepError
from stepkit.paths import ROOT, make_sqlite_url
from stepkit.processes import find_free_port, interrupt_on_signals

AIRFLOW_PYTHON = ROOT / ".venv-airflow" / "bin" / "python"
NAME_WIDTH = 18
FAILURES = (StoryFailed, StepError, requests.RequestException)


def build_environment(folder: Path, tracking: str, receiver: Receiver) -> dict[str, str]:
    """Return the environment that connects the parts with each other, and not with the stores of this repository."""
    return {
        # Each `mlflow run` leaves an empty temporary folder.
        "TMPDIR": str(folder),
        "MLFLOW_TRACKING_URI": tracking,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PREDICTION_LOG_URL": make_sqlite_url(folder / "predictions.db"),
        "DRIFT_ALERTS": receiver.address,
        "DRIFT_ALERTS_JOURNAL": make_sqlite_url(folder / "alerts.db"),
        "DRIFT_SCHEDULE": "none",
        "DRIFT_RETRY_SECONDS": "5",
        "AIRFLOW_VAR_PROJECT_PYTHON": sys.executable,
        "AIRFLOW_VAR_LABELLED_FOLDER": str(folder),
        # The two drifted windows, without the traffic before the drift.
        "AIRFLOW_VAR_LABELLED_ROWS": str(2 * ROWS),
    }


@contextmanager
def open_stage(folder: Path) -> Iterator[Stage]:
    """Start Airflow and the tracking server; stop all processes at the end, also after an error."""
    tracking, scorer, airflow = (find_free_port() for _ in range(3))
    uri = f"http://127.0.0.1:{tracking}"
    with Receiver() as receiver, Processes(folder, build_environment(folder, uri, receiver)) as processes:
        # Airflow takes longest to start and is needed last.
        processes.start(
            "airflow", str(AIRFLOW_PYTHON), "-P", str(ROOT / "drift" / "airflow_standalone.py"),
            "--port", str(airflow), "--home", str(folder / "airflow"),
        )  # fmt: skip
        processes.start(
            "tracking", *MLFLOW, "server", "--host", "127.0.0.1", "--port", str(tracking), "--workers", "1",
            "--backend-store-uri", make_sqlite_url(folder / "mlflow.db"),
            "--artifacts-destination", str(folder / "artifacts"),
        )  # fmt: skip
        wait_for(lambda: fetch(f"{uri}/health") is not None, "start of the tracking server")
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"
        client = MlflowClient(tracking_uri=uri)
        yield Stage(processes, receiver, f"http://127.0.0.1:{scorer}", f"http://127.0.0.1:{airflow}", client)


def play(stage: Stage, console: Console) -> str:
    """Play every act; return "" or the error, with number and name of the act."""
    for number, (name, act) in enumerate(ACTS, start=1):
        start = time.monotonic()
        try:
            stage.processes.verify_running()
            outcome = act(stage)
        except FAILURES as error:
            return f"act {number} ({name}): {error}"
        seconds = time.monotonic() - start
        console.print(f"{number:>2}  {name:<{NAME_WIDTH}} {seconds:6.1f} s  {outcome}", highlight=False, soft_wrap=True)
    return ""


def main() -> int:
    """Run the command; return its exit status."""
    console = Console(markup=False)
    if not AIRFLOW_PYTHON.is_file():
        console.print(f"{AIRFLOW_PYTHON}: Airflow is not installed. Type: make loop", style="red")
        return 2
    interrupt_on_signals()
    folder = Path(tempfile.mkdtemp(prefix="loop-"))
    start = time.monotonic()
    try:
        with open_stage(folder) as stage:
            error = play(stage, console)
    except FAILURES as failure:
        error = f"before act 1: {failure}"
    except KeyboardInterrupt:
        error = "interrupted"
    seconds = time.monotonic() - start
    if error:
        text = f"FAILED after {seconds:.0f} s, {error}\nAll processes are stopped. Logs: {folder}"
        console.print(text, style="bold red")
        return 1
    shutil.rmtree(folder)
    console.print(f"PASS in {seconds:.0f} s", style="bold green")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""make loop: the whole story on this machine, with real parts: train, serve, drift, alert, retrain, swap, quiet again.

Every part is the real one (MLflow's server, the scorer, Airflow's scheduler, a receiver of webhooks), on free ports and
in a folder of its own: mlflow.db, predictions.db and .airflow of this repository are not touched. Prints a line for
each act, ends with PASS or with the act that failed, and ends everything that it has started.
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
    """What tells every part of the story where the others are; nothing of this repository's own is among it."""
    return {
        # `mlflow run` leaves an empty folder there each time
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
        # the two drifted windows, and nothing of the world before
        "AIRFLOW_VAR_LABELLED_ROWS": str(2 * ROWS),
    }


@contextmanager
def open_stage(folder: Path) -> Iterator[Stage]:
    """Start what runs through the whole story; end all of it, whatever comes."""
    tracking, scorer, airflow = (find_free_port() for _ in range(3))
    uri = f"http://127.0.0.1:{tracking}"
    with Receiver() as receiver, Processes(folder, build_environment(folder, uri, receiver)) as processes:
        # it takes longest to start, and is needed last
        processes.start(
            "airflow", str(AIRFLOW_PYTHON), "-P", str(ROOT / "drift" / "airflow_standalone.py"),
            "--port", str(airflow), "--home", str(folder / "airflow"),
        )  # fmt: skip
        processes.start(
            "tracking", *MLFLOW, "server", "--host", "127.0.0.1", "--port", str(tracking), "--workers", "1",
            "--backend-store-uri", make_sqlite_url(folder / "mlflow.db"),
            "--artifacts-destination", str(folder / "artifacts"),
        )  # fmt: skip
        wait_for(lambda: fetch(f"{uri}/health") is not None, "the tracking server")
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"
        client = MlflowClient(tracking_uri=uri)
        yield Stage(processes, receiver, f"http://127.0.0.1:{scorer}", f"http://127.0.0.1:{airflow}", client)


def play(stage: Stage, console: Console) -> str:
    """Play every act; return "" or what went wrong, with the number of the act."""
    for number, (name, act) in enumerate(ACTS, start=1):
        began = time.monotonic()
        try:
            stage.processes.verify_running()
            said = act(stage)
        except FAILURES as error:
            return f"act {number}, {name}: {error}"
        seconds = time.monotonic() - began
        console.print(f"{number:>2}  {name:<{NAME_WIDTH}} {seconds:6.1f} s  {said}", highlight=False, soft_wrap=True)
    return ""


def main() -> int:
    console = Console(markup=False)
    if not AIRFLOW_PYTHON.is_file():
        console.print(f"no Airflow at {AIRFLOW_PYTHON.parent}. Type: make loop", style="red")
        return 2
    interrupt_on_signals()
    folder = Path(tempfile.mkdtemp(prefix="loop-"))
    began = time.monotonic()
    try:
        with open_stage(folder) as stage:
            failed = play(stage, console)
    except FAILURES as error:
        failed = f"before the first act: {error}"
    except KeyboardInterrupt:
        failed = "interrupted"
    seconds = time.monotonic() - began
    if failed:
        text = f"FAILED after {seconds:.0f} s in {failed}\nEverything is ended. Logs: {folder}"
        console.print(text, style="bold red")
        return 1
    shutil.rmtree(folder)
    console.print(f"PASS in {seconds:.0f} s", style="bold green")
    return 0


if __name__ == "__main__":
    sys.exit(main())

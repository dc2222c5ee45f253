"""Press Ctrl-C during a pipeline or a sweep, while its download waits for a stalled server."""

from __future__ import annotations

import os
import signal
import subprocess

import psutil

from stepkit.paths import ROOT
from tests.conftest import Experiment, make_command_env
from tests.support.faulty_http_server import FaultyServer
from tests.support.pipelines import make_pipeline_command
from tests.support.servers import wait_until

PATH = "stall/clients.csv"
SWEEPS = {
    "threads": ["-m"],
    "joblib": ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
}


def make_command(way: str, experiment: Experiment, url: str) -> list[str]:
    options = [f"data.file_url={url}", "download.stall_seconds=600"]
    if way in SWEEPS:
        swept = "random_forest_pipeline.random_forest.n_estimators=10,11"
        return make_pipeline_command(experiment, *SWEEPS[way], swept, *options)
    if way == "python main.py":
        return make_pipeline_command(experiment, *options)
    where = ["--env-manager", "local", "--experiment-name", experiment.name]
    return ["mlflow", "run", ".", *where, "-P", f"hydra_options={' '.join(options)}"]


def interrupt(words: list[str], server: FaultyServer) -> tuple[int, str, list[psutil.Process]]:
    """Start a command and press Ctrl-C during its download; return exit status, output and child processes.

    The command runs in its own session, as in a terminal, so that the signal reaches its foreground group.
    """
    process = subprocess.Popen(
        words, cwd=ROOT, env=make_command_env(), text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        wait_until(lambda: server.asked[PATH] > 0 or process.poll() is not None, "the download has begun")
        assert process.poll() is None, process.communicate()
        running: list[psutil.Process] = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, errors, running


def verify_ended_sweep(way: str, experiment: Experiment, server: FaultyServer) -> None:
    """Interrupt a sweep; verify that the child processes of every job end and that every run is marked."""
    server.files["clients.csv"] = b"ID,LIMIT_BAL\n" * 1000
    status, errors, running = interrupt(make_command(way, experiment, server.url(PATH)), server)
    assert status == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert running
    wait_until(lambda: not any(process.is_running() for process in running), "every child has ended")
    runs = experiment.client.search_runs([experiment.id])
    by_kind = {run.info.run_name: run.info.status for run in runs if run.info.run_name != "shared steps"}
    assert set(by_kind.values()) <= {"KILLED", "FAILED"}, by_kind
    assert {"sweep", "download_data"} <= set(by_kind)

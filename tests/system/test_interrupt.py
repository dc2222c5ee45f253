"""Ctrl-C in the middle: every child ends, the runs are KILLED or FAILED, the older current runs stay."""

from __future__ import annotations

import os
import signal
import subprocess

import psutil
import pytest

from stepkit.tracking import ROOT
from tests.conftest import Experiment, command_env
from tests.pipelines import pipelines_in, start_pipeline
from tests.servers import wait_until
from tests.system.faulty_server import FaultyServer

PATH = "stall/clients.csv"


SWEEPS = {
    "threads": ["-m"],
    "joblib": ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
}


def command(way: str, experiment: Experiment, url: str) -> list[str]:
    options = [f"data.file_url={url}", "download.stall_seconds=600"]
    if way in SWEEPS:
        swept = "random_forest_pipeline.random_forest.n_estimators=10,11"
        return start_pipeline(experiment, *SWEEPS[way], swept, *options)
    if way == "python main.py":
        return start_pipeline(experiment, *options)
    where = ["--env-manager", "local", "--experiment-name", experiment.name]
    return ["mlflow", "run", ".", *where, "-P", f"hydra_options={' '.join(options)}"]


def interrupt(words: list[str], server: FaultyServer) -> tuple[int, str, list[psutil.Process]]:
    """Start, press Ctrl-C while the download waits, and return exit status, last words and all that was running.

    The command gets a session of its own, as a terminal gives it, so that the signal reaches its foreground group.
    """
    process = subprocess.Popen(
        words, cwd=ROOT, env=command_env(), text=True, start_new_session=True,
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


@pytest.mark.parametrize("way", ["python main.py", "mlflow run ."])
def test_ctrl_c_ends_every_process_and_marks_the_runs(
    way: str, experiment: Experiment, faulty_server: FaultyServer
) -> None:
    faulty_server.files["clients.csv"] = b"ID,LIMIT_BAL\n" * 1000
    status, errors, running = interrupt(command(way, experiment, faulty_server.url(PATH)), faulty_server)
    assert status not in (0, None)
    assert "interrupted" in errors
    assert running
    wait_until(lambda: not any(one.is_running() for one in running), "every child has ended")
    (pipeline,) = pipelines_in(experiment)
    assert pipeline.steps["download"].info.status in ("KILLED", "FAILED")
    assert pipeline.parent.info.status in ("KILLED", "FAILED")
    assert not experiment.current("download")
    assert set(pipeline.steps) == {"download"}


@pytest.mark.parametrize("way", SWEEPS)
def test_ctrl_c_ends_every_job_of_a_sweep(way: str, experiment: Experiment, faulty_server: FaultyServer) -> None:
    faulty_server.files["clients.csv"] = b"ID,LIMIT_BAL\n" * 1000
    status, errors, running = interrupt(command(way, experiment, faulty_server.url(PATH)), faulty_server)
    assert status == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert running
    wait_until(lambda: not any(one.is_running() for one in running), "every child has ended")
    runs = experiment.client.search_runs([experiment.id])
    by_kind = {run.info.run_name: run.info.status for run in runs if run.info.run_name != "shared steps"}
    assert set(by_kind.values()) <= {"KILLED", "FAILED"}, by_kind
    assert {"sweep", "download_data"} <= set(by_kind)

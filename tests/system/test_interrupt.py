"""Ctrl-C in the middle: every child ends, the runs are KILLED or FAILED, the older current runs stay."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from stepkit.tracking import ROOT
from tests.conftest import Experiment, command_env
from tests.pipelines import small_forest, small_table, start_pipeline
from tests.servers import wait_until


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def start(command: list[str]) -> subprocess.Popen[str]:
    """Start in a session of its own, as a terminal does, so that Ctrl-C can be sent to its whole foreground group."""
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=command_env(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def interrupt_in(step: str, process: subprocess.Popen[str], experiment: Experiment) -> tuple[str, list[psutil.Process]]:
    """Press Ctrl-C while `step` runs; return what was said and all that was running."""
    try:
        wait_until(lambda: bool(experiment.runs(step)) or process.poll() is not None, f"{step} runs")
        assert process.poll() is None, process.communicate()
        running = children(process)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return errors, running


@pytest.mark.parametrize("way", ["python main.py", "mlflow run ."])
def test_ctrl_c_ends_every_process_and_marks_the_runs(way: str, experiment: Experiment, tmp_path: Path) -> None:
    options = [f"data.file_url={small_table(tmp_path)}", *small_forest()]
    if way == "python main.py":
        command = start_pipeline(experiment, *options)
    else:
        where = ["--env-manager", "local", "--experiment-name", experiment.name]
        command = ["mlflow", "run", ".", *where, "-P", f"hydra_options={' '.join(options)}"]
    process = start(command)
    errors, running = interrupt_in("preprocess", process, experiment)
    assert process.returncode not in (0, None)
    assert "interrupted" in errors
    assert running
    wait_until(
        lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in running), "no child"
    )
    (download,) = experiment.runs("download")
    (preprocess,) = experiment.runs("preprocess")
    assert download.info.status == "FINISHED"
    assert preprocess.info.status in ("KILLED", "FAILED")
    assert not experiment.current("preprocess")
    parent = experiment.client.get_run(download.data.tags["mlflow.parentRunId"])
    assert parent.info.status in ("KILLED", "FAILED")

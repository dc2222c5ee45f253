"""External errors (disk, store, configuration file) are one message; errors in our code keep their traceback."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

import download.run
from stepkit.paths import ROOT
from stepkit.processes import find_free_port
from stepkit.step.run import step_run
from tests.conftest import Experiment, StepResult, run_command

SAMPLE = {"file_url": ROOT / "data" / "sample.csv.gz", "dataset": "sample"}


@pytest.fixture
def walled(experiment: Experiment, tmp_path: Path) -> Experiment:
    """Experiment whose artifacts cannot be written, because their folder would be below a plain file."""
    (tmp_path / "plain").touch()
    client, name = MlflowClient(), f"walled-{experiment.id}"
    return Experiment(name, client.create_experiment(name, (tmp_path / "plain" / "artifacts").as_uri()), client)


def verify_one_message(ended: StepResult, *words: str) -> None:
    assert ended.status == 1
    assert [word for word in words if word not in ended.message] == [], ended.message
    assert "Traceback" not in ended.log + ended.message
    assert len(ended.message.strip().splitlines()) < 6, ended.message


@pytest.mark.parametrize("alone", [False, True])
def test_artifacts_that_cannot_be_written_end_a_command_with_the_folder_and_the_fix(
    alone: bool,
    walled: Experiment,
    tmp_path: Path,
    main_here: Callable[..., StepResult],
    run_step: Callable[..., StepResult],
) -> None:
    if alone:
        mlflow.set_experiment(walled.name)
    ended = run_step("download", **SAMPLE) if alone else main_here(walled, "main.execute_steps=[download]")
    verify_one_message(ended, "DiskUnusable: ", str(tmp_path / "plain"), "Not a directory. Create its folder")
    (run,) = walled.client.search_runs([walled.id])
    assert run.info.status == "FAILED"
    assert not alone or run.data.tags["error"] == ended.message
    assert "current" not in run.data.tags


@pytest.mark.parametrize("in_pipeline", [True, False])
def test_the_traceback_of_an_outside_fault_is_in_the_log_of_a_pipelines_step(
    in_pipeline: bool, experiment: Experiment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tags = {MLFLOW_PARENT_RUN_ID: "1f"} if in_pipeline else {}
    monkeypatch.setenv("MLFLOW_RUN_ID", experiment.client.create_run(experiment.id, tags=tags).info.run_id)
    full = OSError(errno.ENOSPC, "No space left on device", "/var/mlruns/a.csv")
    with pytest.raises(SystemExit), step_run(argparse.Namespace(step="download")):
        raise full
    printed = capsys.readouterr().err
    assert ("Traceback" in printed) == in_pipeline
    assert printed.splitlines()[-1].startswith("DiskUnusable: /var/mlruns/a.csv")


def test_an_error_of_our_own_is_on_the_run_and_its_traceback_in_the_log(
    run_step: Callable[..., StepResult], experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(download.run, "verify_digest")
    with pytest.raises(NameError):
        run_step("download", **SAMPLE)
    (run,) = experiment.runs("download")
    assert run.info.status == "FAILED"
    assert run.data.tags["error"].startswith("NameError: name 'verify_digest' is not defined. Unexpected")


def test_a_reader_that_has_seen_enough_ends_a_command_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    code = "from stepkit.step.exit import exit_on_error\nwith exit_on_error(): print('x' * 100_000)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGPIPE, "")


def test_make_run_reports_a_server_that_is_down_in_a_few_lines() -> None:
    uri = f"http://me:XqSECRETqX@127.0.0.1:{find_free_port()}"
    ended = run_command("make", "--old-file=.venv/run.stamp", "run", MLFLOW_TRACKING_URI=uri)
    output = ended.stdout + ended.stderr
    assert ended.returncode == 2
    assert uri.replace("me:XqSECRETqX@", "") in output
    assert "Start it (mlflow server" in output
    assert "SECRET" not in output
    assert len(output.splitlines()) <= 15, output


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (b"main:\n\tx: 1\n", "line 2: a tab"),
        (b"main: [1, 2\n", "line 2"),
        (b"# \xff\xfe\n", "line 1"),
    ],
    ids=["a tab", "an open bracket", "not UTF-8"],
)
def test_a_data_set_that_is_not_yaml_is_named_with_exit_status_2(
    fault: bytes, reason: str, tmp_path: Path, experiment: Experiment, main_here: Callable[..., StepResult]
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "broken.yaml").write_bytes(fault)
    ended = main_here(experiment, "data=broken", f"hydra.searchpath=[file://{tmp_path}]")
    assert ended.status == 2
    assert f"broken.yaml: {reason}" in ended.message
    assert "Traceback" not in ended.log + ended.message

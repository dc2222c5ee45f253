"""Warm and cold starts of steps give the same artifacts and errors, and leave no process behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import mlflow
import psutil
import pytest
from mlflow.entities import Run

from pipeline.execution.runner import StepFailed
from pipeline.steps import list_steps
from stepkit.paths import ROOT
from stepkit.store.lineage import OUTPUT
from tests.conftest import Experiment, create_experiment, make_command_env
from tests.support.faulty_http_server import FaultyServer
from tests.support.pipelines import (
    PipelineRuns,
    list_pipelines,
    make_pipeline_command,
    make_small_forest,
    run_here,
    write_small_table,
)
from tests.support.servers import wait_until

WAYS = ("warm", "subprocess")


@pytest.fixture(scope="module")
def place(store: str, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    mlflow.set_tracking_uri(store)
    return create_experiment("launchers", tmp_path_factory.mktemp("launchers"))


@pytest.fixture(scope="module")
def scratches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folder of the pipeline's temporary files, for each launcher."""
    return {way: tmp_path_factory.mktemp(way) for way in WAYS}


@pytest.fixture(scope="module")
def pipelines(
    place: Experiment, scratches: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, PipelineRuns]:
    """The same pipeline with both launchers, without register: the second would be compared with the first."""
    table = write_small_table(tmp_path_factory.mktemp("table"))
    steps = ",".join(step.name for step in list_steps("random_forest") if step.name != "register")
    for way in WAYS:
        options = [f"data.file_url={table}", f"main.launcher={way}", f"main.execute_steps=[{steps}]"]
        options += ["main.reuse=false"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TMPDIR", str(scratches[way]))
            patch.setattr(tempfile, "tempdir", None)
            ended = run_here(place, *options, *make_small_forest())
        assert ended.error is None, ended.said
    return dict(zip(WAYS, list_pipelines(place), strict=True))


VERDICTS = {"verdict.json", "evaluation.json"}
"""Artifacts that differ: they contain measured times and run ids."""

TIMED = "one_row_ms"
SIZE = "model_size_mb"
"""Metric that differs slightly: skops numbers the objects in a file by their addresses in memory."""


def get_published(run: Run) -> dict[str, str]:
    """Return the digest of every artifact of a step, except for those that differ."""
    published = {key: tag for key, tag in run.data.tags.items() if key.startswith(OUTPUT)}
    return {key: tag for key, tag in published.items() if key.removeprefix(OUTPUT) not in VERDICTS}


def test_both_ways_publish_the_same_files_byte_for_byte_and_leave_no_temporary_file(
    place: Experiment, pipelines: dict[str, PipelineRuns], scratches: dict[str, Path]
) -> None:
    warm, cold = (pipelines[way].steps for way in WAYS)
    assert set(warm) == set(cold)
    for step in warm:
        assert get_published(warm[step]) == get_published(cold[step]) != {}
    for way in WAYS:
        assert "kept 1,500 of 1,500 rows" in pipelines[way].artifact(place, "preprocess", "step.log").read_text()
        assert [*scratches[way].iterdir()] == []


def test_both_ways_measure_the_same(place: Experiment, pipelines: dict[str, PipelineRuns]) -> None:
    warm, cold = (dict(pipelines[way].steps["evaluate"].data.metrics) for way in WAYS)
    assert warm.pop(TIMED) > 0 < cold.pop(TIMED)
    assert warm.pop(SIZE) == pytest.approx(cold.pop(SIZE), rel=1e-3)
    assert warm == cold
    rules = [read_judged_rules(place, pipelines[way]) for way in WAYS]
    assert rules[0] == rules[1]
    assert len(rules[0]) > 5


def read_judged_rules(place: Experiment, pipeline: PipelineRuns) -> dict[str, bool]:
    """Return whether each rule of the gate passed."""
    verdict = json.loads(pipeline.artifact(place, "evaluate", "verdict.json").read_text())
    return {rule["name"]: rule["passed"] for rule in verdict["rules"]}


def test_checks_and_split_run_side_by_side_and_training_after_both(pipelines: dict[str, PipelineRuns]) -> None:
    steps = {name: run.info for name, run in pipelines["warm"].steps.items()}
    assert steps["segregate"].start_time < steps["check_data"].end_time
    assert steps["random_forest"].start_time >= max(steps["segregate"].end_time, steps["check_data"].end_time)


@pytest.mark.parametrize("way", WAYS)
def test_a_step_that_fails_gives_its_message(way: str, experiment: Experiment, tmp_path: Path) -> None:
    broken = tmp_path / "broken.csv"
    broken.write_text("")
    ended = run_here(experiment, f"data.file_url={broken}", f"main.launcher={way}")
    assert isinstance(ended.error, StepFailed)
    assert "is empty (0 bytes)" in str(ended.error)
    (pipeline,) = list_pipelines(experiment)
    assert pipeline.steps["download"].info.status == "FAILED"


def test_steps_end_when_the_pipelines_process_is_killed(
    experiment: Experiment, faulty_server: FaultyServer, tmp_path: Path
) -> None:
    """SIGKILL leaves the main process no time to clean up; the steps end by themselves."""
    faulty_server.files["clients.csv"] = b"ID,LIMIT_BAL\n" * 1000
    url = faulty_server.url("stall/clients.csv")
    command = make_pipeline_command(experiment, f"data.file_url={url}", "download.stall_seconds=600")
    assert command[0] == sys.executable
    process = subprocess.Popen(command, cwd=ROOT, env=make_command_env(TMPDIR=str(tmp_path)), stdout=subprocess.DEVNULL)
    wait_until(lambda: faulty_server.asked["stall/clients.csv"] > 0, "the download has begun")
    running = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    wait_until(lambda: not any(process.is_running() for process in running), "every child has ended")
    (download,) = experiment.runs("download")
    assert download.info.status == "KILLED"

"""A sweep on a Ray cluster whose nodes share no disk: Ray sends the code, the tracking server has all data."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.tags import STEP_RUN
from stepkit.paths import ROOT
from stepkit.store.lineage import parse_run_id, read_inputs
from tests.cluster.ray_cluster import RayCluster, ray_cluster
from tests.conftest import Experiment, make_command_env, run_command
from tests.support.faulty_http_server import FaultyServer
from tests.support.pipelines import make_pipeline_command, write_small_table
from tests.support.servers import MlflowServer, start_mlflow_server, wait_until

FOREST = "random_forest_pipeline.random_forest"
TREES = (5, 6, 7, 8)


@pytest.fixture(scope="module")
def ray() -> Iterator[RayCluster]:
    with ray_cluster() as started:
        yield started


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    folder = tmp_path_factory.mktemp("server")
    with start_mlflow_server(f"sqlite:///{folder / 'mlflow.db'}", folder) as started:
        yield started


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the table on a web server, which every node can reach."""
    with FaultyServer() as server:
        server.files["clients.csv"] = write_small_table(tmp_path_factory.mktemp("table")).read_bytes()
        yield server.url("etag/clients.csv")


@pytest.fixture
def place(server: MlflowServer, request: pytest.FixtureRequest) -> Iterator[Experiment]:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(server.uri)
    client = MlflowClient(server.uri)
    name = request.node.name
    yield Experiment(name, client.create_experiment(name), client)
    mlflow.set_tracking_uri(before)


def sweep(place: Experiment, ray: RayCluster, source: str, trees: str) -> list[str]:
    on = ["hydra/launcher=ray", f"hydra.launcher.address={ray.address}"]
    return make_pipeline_command(place, "-m", *on, f"data.file_url={source}", f"{FOREST}.n_estimators={trees}")


def make_env(server: MlflowServer, ray: RayCluster) -> dict[str, str]:
    return {"MLFLOW_TRACKING_URI": server.uri, **ray.env}


def list_jobs(place: Experiment) -> list[Run]:
    return sorted(place.client.search_runs([place.id], "tags.job != ''"), key=lambda run: int(run.data.tags["job"]))


def test_a_sweep_on_two_nodes_that_share_no_disk(
    place: Experiment, server: MlflowServer, ray: RayCluster, source: str
) -> None:
    swept = run_command(*sweep(place, ray, source, ",".join(map(str, TREES))), **make_env(server, ray))  # type: ignore[arg-type]  # no variable is named cwd or timeout
    assert swept.returncode == 0, swept.stdout + swept.stderr
    jobs = list_jobs(place)
    assert [int(job.data.params[f"swept.{FOREST}.n_estimators"]) for job in jobs] == list(TREES)
    for name in ("download", "preprocess", "check_data", "segregate"):
        assert len(place.runs(name)) == 1, name
    (evaluate,) = place.runs("evaluate")
    (best,) = [job for job in jobs if job.info.run_id == evaluate.data.tags["mlflow.parentRunId"]]
    refit = best.data.tags[STEP_RUN + "random_forest"]
    trainings = [run for run in place.runs("random_forest") if run.info.run_id != refit]
    assert len(trainings) == len(jobs)
    for training in trainings:
        (job,) = [job for job in jobs if job.info.run_id == training.data.tags["mlflow.parentRunId"]]
        assert {parse_run_id(address) for address in read_inputs(training).values()} == {
            job.data.tags[STEP_RUN + "segregate"]
        }
        assert training.info.artifact_uri.startswith("mlflow-artifacts:")
    # each node has unpacked the code to its own folder
    folders = {Path(training.data.tags["mlflow.source.name"]) for training in trainings}
    assert len(folders) == 2
    assert not any(folder.is_relative_to(ROOT) for folder in folders)
    # the model of the best job is refitted on the machine that started the sweep
    assert str(ROOT) in place.client.get_run(refit).data.tags["mlflow.source.name"]


def test_a_killed_worker_loses_only_its_job_which_the_next_sweep_makes_up_for(
    place: Experiment, server: MlflowServer, ray: RayCluster, source: str
) -> None:
    command = sweep(place, ray, source, "9,4000")
    process = subprocess.Popen(
        command, cwd=ROOT, env=make_command_env(**make_env(server, ray)), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_until(lambda: len(place.runs("random_forest")) == 2 or process.poll() is not None, "both jobs train")
    assert process.poll() is None, process.communicate()
    (victim,) = [process for process in ray.processes() if process.cmdline()[:1] == ["ray::job 1"]]
    victim.send_signal(signal.SIGKILL)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 1, output + errors
    assert "job 1: n_estimators=4000" in errors
    assert "Run the same sweep again" in errors
    assert [job.info.status for job in list_jobs(place)] == ["FINISHED", "KILLED"]
    # the step of the killed worker has ended too
    wait_until(lambda: all(run.info.status != "RUNNING" for run in place.runs("random_forest")), "no step trains on")
    again = run_command(*sweep(place, ray, source, "9,10"), **make_env(server, ray))  # type: ignore[arg-type]  # no variable is named cwd or timeout
    assert again.returncode == 0, again.stdout + again.stderr
    assert len(place.runs("download")) == len(place.runs("segregate")) == 1
    assert "0 ran, 5 reused" in again.stdout

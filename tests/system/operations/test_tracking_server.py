"""A real `mlflow server` over HTTP on a real PostgreSQL: the pipeline through it, and what happens when it goes."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import psycopg
import pytest
from mlflow import MlflowClient

from stepkit.paths import ROOT
from stepkit.processes import find_free_port
from tests.conftest import Experiment, StepResult, make_command_env, run_command
from tests.support.pipelines import make_small_forest, write_small_table
from tests.support.servers import IMPATIENT, MlflowServer, start_mlflow_server, start_postgres, wait_until

EXPERIMENT = "through the server"


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with start_postgres() as uri:
        yield uri


@pytest.fixture(scope="module")
def server(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with start_mlflow_server(database, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_table(tmp_path_factory.mktemp("table"))


def options(server_uri: str, table: Path) -> list[str]:
    where = [f"main.mlflow_tracking_url={server_uri}", f"main.experiment_name='{EXPERIMENT}'"]
    return ["python", "main.py", *where, f"data.file_url={table}", *make_small_forest()]


@pytest.fixture(scope="module")
def ended(server: MlflowServer, table: Path, store: str) -> subprocess.CompletedProcess[str]:
    """The pipeline with the server in its configuration and another store in its environment."""
    return run_command(*options(server.uri, table), MLFLOW_TRACKING_URI=store)


@pytest.fixture
def client(server: MlflowServer) -> Iterator[MlflowClient]:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(server.uri)
    yield MlflowClient(server.uri, server.uri)
    mlflow.set_tracking_uri(before)


def test_pipeline_runs_through_the_server_of_its_configuration_and_says_so(
    ended: subprocess.CompletedProcess[str],
) -> None:
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "is challenger and champion" in ended.stdout
    assert "main.mlflow_tracking_url overrides MLFLOW_TRACKING_URI" in ended.stdout


def test_runs_are_in_postgresql_and_artifacts_come_through_the_server(
    ended: subprocess.CompletedProcess[str], client: MlflowClient, database: str
) -> None:
    experiment = client.get_experiment(mlflow.set_experiment(EXPERIMENT).experiment_id)
    assert experiment.artifact_location.startswith("mlflow-artifacts:/")
    (segregate,) = client.search_runs([experiment.experiment_id], "tags.step = 'segregate'")
    assert Path(client.download_artifacts(segregate.info.run_id, "data/data_train.csv")).stat().st_size > 0
    with psycopg.connect(database) as connection:
        found = connection.execute("select status from runs where run_uuid = %s", [segregate.info.run_id]).fetchone()
    assert found == ("FINISHED",)


def test_model_is_served_from_the_servers_registry(
    ended: subprocess.CompletedProcess[str], client: MlflowClient
) -> None:
    model = mlflow.pyfunc.load_model("models:/credit_default@champion")
    example = json.loads(json.dumps(model.input_example.to_dict("split")))
    assert len(model.predict(model.input_example)) == len(example["data"])


def test_server_that_does_not_answer_at_the_start_is_one_clear_message(
    experiment: Experiment, main_here: Callable[..., StepResult]
) -> None:
    uri = f"http://127.0.0.1:{find_free_port()}"
    ended = main_here(experiment, f"main.mlflow_tracking_url={uri}")
    assert ended.status == 1
    assert f"the tracking server {uri} does not respond" in ended.message
    assert "mlflow server" in ended.message
    assert "Traceback" not in ended.message


def test_server_that_goes_away_in_the_middle_ends_the_pipeline_with_one_message(
    ended: subprocess.CompletedProcess[str], server: MlflowServer, client: MlflowClient, database: str, table: Path
) -> None:
    """The server is stopped while the first step runs; what was current before is current after."""
    experiment = client.get_experiment(mlflow.set_experiment(EXPERIMENT).experiment_id)
    chosen = "tags.step = 'download_data' and tags.current = 'true'"
    before = [run.info.run_id for run in client.search_runs([experiment.experiment_id], chosen)]
    process = subprocess.Popen(
        [*options(server.uri, table), "main.reuse=false"], cwd=ROOT, env=make_command_env(**IMPATIENT), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_until(lambda: len(client.search_runs([experiment.experiment_id], "tags.step = 'download_data'")) > 1, "a step")
    server.stop()
    _, errors = process.communicate(timeout=300)
    assert process.returncode not in (0, -signal.SIGKILL)
    assert "TrackingUnreachable" in errors
    assert "Start it, then run the same command again" in errors
    assert "Traceback" not in errors
    behind = MlflowClient(database)  # what the server would say, once it is back
    after = [run.info.run_id for run in behind.search_runs([experiment.experiment_id], chosen)]
    assert after == before

"""Two simultaneous pipelines in one experiment never read each other's artifacts."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import mlflow
import pandas as pd
import pytest

from stepkit.paths import ROOT
from stepkit.step.artifacts import StepRun
from stepkit.store.lineage import parse_run_id, read_inputs
from tests.conftest import Experiment, create_experiment, make_command_env
from tests.support.pipelines import (
    PipelineRuns,
    list_pipelines,
    make_pipeline_command,
    make_small_forest,
    write_small_table,
)

SEEDS = (1, 2)


@pytest.fixture(scope="module")
def place(store: str, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    mlflow.set_tracking_uri(store)
    return create_experiment("side by side", tmp_path_factory.mktemp("side"))


@pytest.fixture(scope="module")
def pipelines(place: Experiment, tmp_path_factory: pytest.TempPathFactory) -> dict[int, PipelineRuns]:
    """Pipelines by seed, each with its own table and seed."""
    folder = tmp_path_factory.mktemp("tables")
    commands = [
        make_pipeline_command(
            place, f"data.file_url={write_small_table(folder, seed)}", f"main.random_seed={seed}", *make_small_forest()
        )
        for seed in SEEDS
    ]
    started = [
        subprocess.Popen(command, cwd=ROOT, env=make_command_env(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for command in commands
    ]
    for process in started:
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output.decode()
    pipelines_by_seed = {
        int(pipeline.parent.data.params["random_seed"]): pipeline for pipeline in list_pipelines(place)
    }
    assert set(pipelines_by_seed) == set(SEEDS)
    return pipelines_by_seed


def test_every_input_seed_and_version_is_of_the_same_pipeline(
    place: Experiment, pipelines: dict[int, PipelineRuns]
) -> None:
    for seed, pipeline in pipelines.items():
        step_run_ids = {run.info.run_id for run in pipeline.steps.values()}
        for name, run in pipeline.steps.items():
            read = {parse_run_id(address) for address in read_inputs(run).values()}
            assert read <= step_run_ids, name
            assert read or name == "download"
            assert run.data.params.get("random_seed", str(seed)) == str(seed)
        version = place.client.get_model_version(place.id_name, pipeline.steps["register"].data.tags["model_version"])
        assert version.tags["training_run_id"] == pipeline.steps["random_forest"].info.run_id
        assert version.tags["pipeline_run_id"] == pipeline.parent.info.run_id
    assert {name: len(place.current(name)) for name in pipelines[1].steps} == dict.fromkeys(pipelines[1].steps, 1)


def test_each_table_went_through_its_own_pipeline(
    place: Experiment, pipelines: dict[int, PipelineRuns], tmp_path: Path
) -> None:
    for seed, pipeline in pipelines.items():
        raw = pd.read_csv(write_small_table(tmp_path, seed)).drop(columns="ID")
        train = pipeline.table(place, "segregate", "data/data_train.csv")
        raw_rows = set(raw.astype(float).itertuples(index=False, name=None))
        assert set(train.astype(float).itertuples(index=False, name=None)) <= raw_rows


def test_runs_that_log_the_same_table_at_the_same_moment_all_have_it(experiment: Experiment, tmp_path: Path) -> None:
    """MLflow's store inserts a new table once for all runs, and fails if two runs insert it at the same time."""
    table = pd.DataFrame({"AGE": [24.0, 57.0]})
    runs = [experiment.client.create_run(experiment.id).info.run_id for _ in range(8)]
    together = Barrier(len(runs))

    def log(run_id: str) -> None:
        with mlflow.start_run(run_id=run_id):
            together.wait()
            for number in range(5):
                run = StepRun(experiment.client, run_id, experiment.id, tmp_path)
                run.log_dataset(table, f"table {number}", f"{number}" * 64, "runs:/1f/table.csv", "input")

    with ThreadPoolExecutor(len(runs)) as pool:
        list(pool.map(log, runs))
    for run_id in runs:
        logged = experiment.client.get_run(run_id).inputs
        assert {dataset_input.dataset.name for dataset_input in (logged.dataset_inputs if logged else [])} == {
            f"table {number}" for number in range(5)
        }

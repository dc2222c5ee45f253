"""Twenty jobs with hydra/launcher=joblib, three at a time, each with another number of trees: no mix-ups."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
import pytest
import skops.io
from mlflow.entities import Run
from sklearn.ensemble import RandomForestClassifier

from pipeline.tags import STEP_RUN
from stepkit.store.lineage import parse_run_id, read_inputs
from tests.conftest import Experiment, create_experiment, run_command
from tests.support.ctrl_c import SWEEPS, verify_ended_sweep
from tests.support.faulty_http_server import FaultyServer
from tests.support.pipelines import make_pipeline_command, write_small_table
from tests.support.sweep_runs import FOREST, PREPARING, get_step_run, get_sweep, list_jobs
from training.export import TRUSTED_TYPES
from training.pipeline import get_classifier

JOBS = 20
QUICK = ["evaluate.resamples=100", "evaluate.slices.columns={}"]
"""Options that shorten the evaluation: few resamples, no slices."""


@pytest.fixture(scope="module")
def place(store: str, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    mlflow.set_tracking_uri(store)
    return create_experiment("parallel sweep", tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def jobs(place: Experiment, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    table = write_small_table(tmp_path_factory.mktemp("table"), rows=600)
    steps = "main.execute_steps=[download,preprocess,check_data,segregate,random_forest,evaluate]"
    parallel = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=3", "sweep.test=all"]
    points = [f"{FOREST}.n_estimators=range(1,{JOBS + 1})", f"{FOREST}.max_depth=3"]
    command = make_pipeline_command(place, "-m", *parallel, *points, f"data.file_url={table}", steps, *QUICK)
    swept = run_command(*command, timeout=1000)
    assert swept.returncode == 0, swept.stdout + swept.stderr
    return list_jobs(place, get_sweep(place))


def test_every_job_ended_well_under_its_own_number(jobs: list[Run]) -> None:
    assert sorted(int(job.data.tags["job"]) for job in jobs) == list(range(JOBS))
    assert {job.info.status for job in jobs} == {"FINISHED"}
    for job in jobs:
        assert int(job.data.params[f"swept.{FOREST}.n_estimators"]) == int(job.data.tags["job"]) + 1


def test_shared_steps_ran_once_although_jobs_began_together(place: Experiment, jobs: list[Run]) -> None:
    for name in PREPARING:
        assert len(place.runs(name)) == 1, name
        assert len({job.data.tags[STEP_RUN + name] for job in jobs}) == 1


def test_no_model_is_trained_or_judged_under_the_parameters_of_another_job(place: Experiment, jobs: list[Run]) -> None:
    for job in jobs:
        training, judging = (get_step_run(place, job, name) for name in ("random_forest", "evaluate"))
        assert training.data.tags["mlflow.parentRunId"] == judging.data.tags["mlflow.parentRunId"] == job.info.run_id
        read = {parse_run_id(address) for address in read_inputs(judging).values()}
        assert read == {training.info.run_id, job.data.tags[STEP_RUN + "segregate"]}
        forest = load_forest(place, training)
        assert len(forest.estimators_) == int(job.data.params[f"swept.{FOREST}.n_estimators"])


@pytest.mark.parametrize("way", SWEEPS)
def test_ctrl_c_ends_every_job_of_a_sweep(way: str, experiment: Experiment, faulty_server: FaultyServer) -> None:
    verify_ended_sweep(way, experiment, faulty_server)


def load_forest(experiment: Experiment, training: Run) -> RandomForestClassifier:
    model = experiment.client.get_logged_model(training.data.tags["model_id"])
    file = Path(unquote(urlsplit(model.artifact_location).path)) / "artifacts" / "model.skops"
    forest: RandomForestClassifier = get_classifier(skops.io.load(file, trusted=TRUSTED_TYPES))
    return forest

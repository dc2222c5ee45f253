"""Find the runs of a sweep, of its jobs and of their steps."""

from __future__ import annotations

from mlflow.entities import Run

from pipeline.tags import STEP_RUN
from tests.conftest import Experiment

FOREST = "random_forest_pipeline.random_forest"
PREPARING = ("download", "preprocess", "check_data", "segregate")


def list_jobs(experiment: Experiment, parent: Run) -> list[Run]:
    chosen = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    jobs = [run for run in experiment.client.search_runs([experiment.id], chosen) if "job" in run.data.tags]
    return sorted(jobs, key=lambda run: int(run.data.tags["job"]))


def get_sweep(experiment: Experiment) -> Run:
    (sweep,) = experiment.client.search_runs([experiment.id], "tags.best_job != ''")
    return sweep


def get_step_run(experiment: Experiment, job: Run, name: str) -> Run:
    return experiment.client.get_run(job.data.tags[STEP_RUN + name])

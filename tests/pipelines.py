"""Start whole pipelines from tests, and read what they left."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from mlflow.entities import Run

from pipeline.steps import STEPS
from simulate.clients import clients
from tests.conftest import Experiment, run_command

SMALL_ROWS = 1500


def small_table(folder: Path, seed: int = 1, rows: int = SMALL_ROWS) -> Path:
    """Write a small table of synthetic clients; a pipeline on it takes little more than its start-up times."""
    path = folder / f"clients_{seed}.csv"
    clients(rows, seed).to_csv(path, index=False)
    return path


def small_forest() -> list[str]:
    settings = {"n_estimators": 10, "max_depth": 5}
    return [f"random_forest_pipeline.random_forest.{key}={value}" for key, value in settings.items()]


def start_pipeline(experiment: Experiment, *options: str, model_name: str = "") -> list[str]:
    """Return the command of a pipeline in `experiment` that registers a model of its own name."""
    name = model_name or experiment.id_name
    return [
        sys.executable, "main.py", f"main.experiment_name='{experiment.name}'", f"register.model_name={name}", *options
    ]  # fmt: skip


def run_pipeline(experiment: Experiment, *options: str) -> subprocess.CompletedProcess[str]:
    return run_command(*start_pipeline(experiment, *options))


@dataclass
class PipelineRuns:
    """One pipeline run and the runs of its steps, by the steps' names."""

    parent: Run
    steps: dict[str, Run]

    def artifact(self, experiment: Experiment, step: str, name: str) -> Path:
        return Path(experiment.client.download_artifacts(self.steps[step].info.run_id, name))

    def table(self, experiment: Experiment, step: str, name: str) -> pd.DataFrame:
        return pd.read_csv(self.artifact(experiment, step, name))


def pipelines_in(experiment: Experiment) -> list[PipelineRuns]:
    """Every pipeline of an experiment with its nested runs, oldest first."""
    runs = experiment.client.search_runs([experiment.id], order_by=["attributes.start_time ASC"])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags and "step" not in run.data.tags]
    names = {step.run_name: step.name for step in STEPS}
    return [
        PipelineRuns(
            parent,
            {
                names[run.data.tags["step"]]: run
                for run in runs
                if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id and "step" in run.data.tags
            },
        )
        for parent in parents
    ]

"""Helpers that run whole pipelines and read their runs and artifacts."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from mlflow.entities import Run
from rich.console import Console

from pipeline.config import parse_config
from pipeline.execution.runner import StepFailed
from pipeline.execution.single import run_single
from pipeline.launch.forkserver import warm_up
from pipeline.tags import OVERRIDES, STEP_RUN
from simulate.clients import simulate_clients
from stepkit.errors import StepError
from tests.conftest import Experiment, run_command
from tests.support.small_data import compose_config

SMALL_ROWS = 1500
NEWEST = ["attributes.start_time DESC"]


def write_small_table(folder: Path, seed: int = 1, rows: int = SMALL_ROWS) -> Path:
    """Write a small table of synthetic clients, on which a pipeline takes little more than its start-up time."""
    path = folder / f"clients_{seed}.csv"
    simulate_clients(rows, seed).to_csv(path, index=False)
    return path


def make_small_forest() -> list[str]:
    """Return options for a forest that is fitted fast, and may rank the rows of a small table worse than a baseline."""
    settings = {"n_estimators": 10, "max_depth": 5}
    forest = [f"random_forest_pipeline.random_forest.{key}={value}" for key, value in settings.items()]
    return [*forest, "evaluate.gate.baselines=null"]


def make_pipeline_command(experiment: Experiment, *options: str, model_name: str = "") -> list[str]:
    """Return the command of a pipeline in `experiment`, which registers a model with its own name."""
    name = model_name or experiment.id_name
    return [
        sys.executable, "main.py", f"main.experiment_name='{experiment.name}'", f"register.model_name={name}", *options
    ]  # fmt: skip


def run_pipeline(experiment: Experiment, *options: str) -> subprocess.CompletedProcess[str]:
    return run_command(*make_pipeline_command(experiment, *options))


@dataclass
class PipelineRuns:
    """One pipeline run and the runs of its steps, by the steps' names."""

    parent: Run
    steps: dict[str, Run]

    def artifact(self, experiment: Experiment, step: str, name: str) -> Path:
        return Path(experiment.client.download_artifacts(self.steps[step].info.run_id, name))

    def table(self, experiment: Experiment, step: str, name: str) -> pd.DataFrame:
        return pd.read_csv(self.artifact(experiment, step, name))


def list_pipelines(experiment: Experiment) -> list[PipelineRuns]:
    """Return every pipeline of an experiment with the runs of its steps, new or reused; oldest first."""
    runs = experiment.client.search_runs([experiment.id], order_by=["attributes.start_time ASC"])
    parents = [run for run in runs if "config/config.yaml" in list_artifacts(experiment, run)]
    return [get_pipeline(experiment, parent.info.run_id) for parent in parents]


def list_artifacts(experiment: Experiment, run: Run) -> list[str]:
    return [entry.path for entry in experiment.client.list_artifacts(run.info.run_id, "config")]


def get_pipeline(experiment: Experiment, run_id: str) -> PipelineRuns:
    parent = experiment.client.get_run(run_id)
    steps = {key.removeprefix(STEP_RUN): run for key, run in parent.data.tags.items() if key.startswith(STEP_RUN)}
    return PipelineRuns(parent, {name: experiment.client.get_run(run) for name, run in steps.items()})


@dataclass
class PipelineResult:
    """Result of a pipeline in this process: its output, its runs, and the error that ended it, if any."""

    said: str
    runs: PipelineRuns
    error: Exception | None = None

    @property
    def states(self) -> dict[str, str]:
        """State of each step (ran, reused or failed) and the reason for running again, as in the closing table."""
        lines = re.findall(r"^(?:steps)? +(\w+) +(ran|reused|failed|not run)\b *(.*)$", self.said, re.MULTILINE)
        return {name: f"{state} {why}".strip() for name, state, why in lines}


def run_here(experiment: Experiment, *options: str) -> PipelineResult:
    """Run a pipeline in this process, which saves the start of a new Python process."""
    warm_up()  # The steps of all tests in this process are forked from one process that has loaded the libraries.
    name = [] if any("register.model_name" in option for option in options) else [experiment.id_name]
    registered = [f"register.model_name={model_name}" for model_name in name]
    overrides = [f"main.experiment_name='{experiment.name}'", *registered, *options]
    config = parse_config(compose_config(*overrides))
    console = Console(file=io.StringIO(), width=200)
    error = None
    try:
        run_single(config, console, overrides)
    except (StepFailed, StepError) as failed:
        error = failed
    newest = experiment.client.search_runs(
        [experiment.id], f"tags.{OVERRIDES} LIKE '%'", order_by=NEWEST, max_results=1
    )
    assert isinstance(console.file, io.StringIO)
    return PipelineResult(console.file.getvalue(), get_pipeline(experiment, newest[0].info.run_id), error)

"""Each step alone and in order, with the commands of the pages, under each environment manager."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import mlflow
import pytest
from mlflow.cli import cli

from pipeline.steps import list_steps
from stepkit.paths import ROOT
from tests.conftest import Experiment, create_experiment
from tests.support.pipelines import write_small_table
from tests.tour.pages import list_pages, read_commands

COMMANDS = [
    command.text
    for page in list_pages()
    for command in read_commands(page)
    if re.match(r"mlflow run \./\w+ -P step=", command.text)
]
"""The commands that run a single step, in the order of the pages."""


def type_command(line: str, experiment: Experiment, env_manager: str, table: Path) -> None:
    """Run a command with MLflow's own command line, in this process (its start takes seconds)."""
    line = line.replace("--env-manager local", f"--env-manager {env_manager}")
    line = line.replace("--experiment-name E ", f"--experiment-name '{experiment.name}' ")
    line = line.replace("data/sample.csv.gz", str(table))
    cli.main(shlex.split(line)[1:], standalone_mode=False)


@pytest.fixture(params=["local", "uv"], scope="module")
def env_manager(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def experiment(store: str, env_manager: str, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """Experiment in which every command ran, one after the other."""
    mlflow.set_tracking_uri(store)
    folder = tmp_path_factory.mktemp(env_manager)
    experiment = create_experiment(f"typed {env_manager}", folder)
    table = write_small_table(folder)
    for line in COMMANDS:
        type_command(line, experiment, env_manager, table)
    return experiment


@pytest.fixture(autouse=True, scope="module")
def in_the_repository() -> None:
    """Change to the root: the commands name its folders."""
    os.chdir(ROOT)


def test_the_pages_name_every_step_in_order() -> None:
    assert [re.split(r"[/ ]", line)[3] for line in COMMANDS] == [step.name for step in list_steps("random_forest")]


def test_every_step_finished_and_is_current(experiment: Experiment) -> None:
    for step in ("download", "preprocess", "check_data", "segregate", "random_forest", "evaluate", "register"):
        (run,) = experiment.current(step)
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.runName"] == run.data.tags["step"]


def test_each_step_read_the_current_run_before_it(experiment: Experiment) -> None:
    (evaluate,) = experiment.runs("evaluate")
    (segregate,) = experiment.runs("segregate")
    assert evaluate.data.tags["input.data/data_test.csv"] == f"runs:/{segregate.info.run_id}/data/data_test.csv"


def test_model_is_registered_and_the_first_of_equal_ones_is_champion(experiment: Experiment, env_manager: str) -> None:
    newest = experiment.client.get_model_version_by_alias("credit_default", "challenger")
    (forest,) = experiment.runs("random_forest")
    assert newest.run_id == forest.info.run_id
    champion = experiment.client.get_model_version_by_alias("credit_default", "champion")
    assert (champion.version == newest.version) == (env_manager == "local")


def test_step_of_a_git_clone_runs(store: str, tmp_path: Path) -> None:
    """`mlflow run <path to a git clone>#preprocess`: the step finds stepkit next to its own folder."""
    clone = tmp_path / "clone"
    if subprocess.run(["git", "clone", "--quiet", ROOT, clone], capture_output=True).returncode:
        pytest.skip("this checkout is not a git repository")
    experiment = create_experiment(f"clone {tmp_path.name}", tmp_path)
    table = write_small_table(tmp_path)
    for line in COMMANDS[:2]:
        type_command(line.replace("./", f"{clone}#"), experiment, "local", table)
    (run,) = experiment.current("preprocess")
    assert run.data.tags["mlflow.source.name"].endswith("#preprocess")

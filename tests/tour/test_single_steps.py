"""Each step alone and in order, with the commands of the README, under each environment manager."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import mlflow
import pytest
from mlflow.cli import cli

from pipeline.steps import BY_NAME
from stepkit.paths import ROOT
from tests.conftest import Experiment, create_experiment
from tests.support.pipelines import write_small_table

README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README.split("### One step")[1].split("\n## ")[0]
COMMANDS = re.findall(r"^mlflow run \./.*$", SECTION, re.MULTILINE)
"""The commands of the README's section on single steps, in its order."""


def type_command(line: str, experiment: Experiment, env_manager: str, table: Path) -> None:
    """Run one of the README's commands with MLflow's own command line, in this process (its start takes seconds)."""
    line = line.replace("--env-manager local", f"--env-manager {env_manager}")
    line = line.replace("--experiment-name E ", f"--experiment-name '{experiment.name}' ")
    line = line.replace("data/sample.csv.gz", str(table))
    cli.main(shlex.split(line)[1:], standalone_mode=False)


@pytest.fixture(params=["local", "uv"], scope="module")
def env_manager(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def typed(store: str, env_manager: str, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """An experiment in which every command was typed, one after the other."""
    mlflow.set_tracking_uri(store)
    folder = tmp_path_factory.mktemp(env_manager)
    experiment = create_experiment(f"typed {env_manager}", folder)
    table = write_small_table(folder)
    for line in COMMANDS:
        type_command(line, experiment, env_manager, table)
    return experiment


@pytest.fixture(autouse=True, scope="module")
def in_the_repository() -> None:
    """The commands name folders of the repository."""
    os.chdir(ROOT)


def test_readme_names_every_step_in_order() -> None:
    assert [re.split(r"[/ ]", line)[3] for line in COMMANDS] == list(BY_NAME)


def test_every_step_finished_and_is_current(typed: Experiment) -> None:
    for step in ("download", "preprocess", "check_data", "segregate", "random_forest", "evaluate", "register"):
        (run,) = typed.current(step)
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.runName"] == run.data.tags["step"]


def test_each_step_read_the_current_run_before_it(typed: Experiment) -> None:
    (evaluate,) = typed.runs("evaluate")
    (segregate,) = typed.runs("segregate")
    assert evaluate.data.tags["input.data/data_test.csv"] == f"runs:/{segregate.info.run_id}/data/data_test.csv"


def test_model_is_registered_and_the_first_of_equal_ones_is_champion(typed: Experiment, env_manager: str) -> None:
    newest = typed.client.get_model_version_by_alias("credit_default", "challenger")
    (forest,) = typed.runs("random_forest")
    assert newest.run_id == forest.info.run_id
    champion = typed.client.get_model_version_by_alias("credit_default", "champion")
    assert (champion.version == newest.version) == (env_manager == "local")


def test_step_of_a_git_clone_runs(store: str, tmp_path: Path) -> None:
    """`mlflow run <path to a git clone>#preprocess`: the step finds stepkit beside its own folder."""
    clone = tmp_path / "clone"
    made = subprocess.run(["git", "clone", "--quiet", ROOT, clone], capture_output=True)
    if made.returncode:
        pytest.skip("this checkout is no git repository")
    experiment = create_experiment(f"clone {tmp_path.name}", tmp_path)
    table = write_small_table(tmp_path)
    for line in COMMANDS[:2]:
        type_command(line.replace("./", f"{clone}#"), experiment, "local", table)
    (run,) = experiment.current("preprocess")
    assert run.data.tags["mlflow.source.name"].endswith("#preprocess")

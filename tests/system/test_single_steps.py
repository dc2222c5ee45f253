"""Each step alone and in order, with the commands of the README, under each environment manager."""

from __future__ import annotations

import subprocess
from pathlib import Path

import mlflow
import pytest
from mlflow.cli import cli

from stepkit.tracking import ROOT
from tests.conftest import Experiment, new_experiment
from tests.pipelines import small_table

COMMANDS = """
mlflow run ./download -P step=download_data -P file_url=URL -P artifact_name=raw_data.csv -P artifact_description="Raw data" --run-name download_data
mlflow run ./preprocess -P step=preprocess -P input_step=download_data -P input_artifact=raw_data.csv -P artifact_name=preprocessed_data.csv -P artifact_description="Clean data" --run-name preprocess
mlflow run ./check_data -P step=check_data -P input_step=preprocess -P reference_artifact=preprocessed_data.csv -P sample_artifact=preprocessed_data.csv -P ks_alpha=0.05 --run-name check_data
mlflow run ./segregate -P step=segregate -P input_step=preprocess -P input_artifact=preprocessed_data.csv -P artifact_root=data -P test_size=0.3 -P stratify=default --run-name segregate
mlflow run ./random_forest -P step=random_forest -P input_step=segregate -P train_data=data/data_train.csv -P model_config=rf_config.yaml -P export_artifact=model_export -P random_seed=42 -P val_size=0.3 -P stratify=default --run-name random_forest
mlflow run ./evaluate -P step=evaluate -P input_model_step=random_forest -P model_export=model_export -P input_data_step=segregate -P test_data=data/data_test.csv --run-name evaluate
mlflow run ./register -P step=register -P input_model_step=random_forest -P input_verdict_step=evaluate -P model_name=MODEL --run-name register
"""  # noqa: E501  # the commands as they are typed


def type_command(line: str, experiment: Experiment, env_manager: str, **names: str) -> None:
    """Run one `mlflow run` command with MLflow's own command line, in this process (its start-up takes seconds)."""
    import shlex

    for name, value in names.items():
        line = line.replace(name, value)
    words = [*shlex.split(line)[1:], "--env-manager", env_manager, "--experiment-name", experiment.name]
    cli.main(words, standalone_mode=False)


@pytest.fixture(params=["local", "uv"], scope="module")
def env_manager(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def typed(store: str, env_manager: str, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """An experiment in which every command was typed, one after the other."""
    mlflow.set_tracking_uri(store)
    folder = tmp_path_factory.mktemp(env_manager)
    experiment = new_experiment(f"typed {env_manager}", folder)
    for line in COMMANDS.strip().splitlines():
        type_command(
            line, experiment, env_manager, URL=str(small_table(folder)), MODEL=experiment.id_name, cwd=str(ROOT)
        )
    return experiment


@pytest.fixture(autouse=True, scope="module")
def in_the_repository() -> None:
    """The commands name folders of the repository."""
    import os

    os.chdir(ROOT)


def test_every_step_finished_and_is_current(typed: Experiment) -> None:
    for step in ("download", "preprocess", "check_data", "segregate", "random_forest", "evaluate", "register"):
        (run,) = typed.current(step)
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.runName"] == run.data.tags["step"]


def test_each_step_read_the_current_run_before_it(typed: Experiment) -> None:
    (evaluate,) = typed.runs("evaluate")
    (segregate,) = typed.runs("segregate")
    assert evaluate.data.tags["input.data/data_test.csv"] == f"runs:/{segregate.info.run_id}/data/data_test.csv"


def test_model_is_registered_and_champion(typed: Experiment) -> None:
    version = typed.client.get_model_version_by_alias(typed.id_name, "champion")
    (forest,) = typed.runs("random_forest")
    assert version.run_id == forest.info.run_id


def test_step_of_a_git_clone_runs(store: str, tmp_path: Path) -> None:
    """`mlflow run <path to a git clone>#preprocess`: the step finds stepkit beside its own folder."""
    clone = tmp_path / "clone"
    made = subprocess.run(["git", "clone", "--quiet", ROOT, clone], capture_output=True)
    if made.returncode:
        pytest.skip("this checkout is no git repository")
    experiment = new_experiment(f"clone {tmp_path.name}", tmp_path)
    lines = COMMANDS.strip().splitlines()
    type_command(lines[0].replace("./", f"{clone}#"), experiment, "local", URL=str(small_table(tmp_path)))
    type_command(lines[1].replace("./", f"{clone}#"), experiment, "local")
    (run,) = experiment.current("preprocess")
    assert run.data.tags["mlflow.source.name"].endswith("#preprocess")

"""An invalid configuration is one line before any step starts; a failed step stops the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.cli import PAGES, choose_help_page
from pipeline.execution.runner import StepFailed
from tests.conftest import Experiment, StepResult, run_command
from tests.support.pipelines import run_here, write_small_table


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("main.execute_steps=[download,segregat]", "unknown step 'segregat'; did you mean 'segregate'?"),
        (
            "main.exectue_steps=all",
            "main.exectue_steps: unknown configuration key; did you mean 'main.execute_steps'?",
        ),
        ("data=3", "data: no option '3' (found: sample, uci)"),
    ],
)
def test_wrong_option_is_one_line_and_nothing_runs(
    option: str, message: str, experiment: Experiment, main_here: Callable[..., StepResult]
) -> None:
    ended = main_here(experiment, option)
    assert ended.status == 2
    assert message in ended.message
    assert "Traceback" not in ended.message
    assert not experiment.client.search_runs([experiment.id])


def test_mlflow_run_with_a_wrong_option_leaves_a_failed_run(experiment: Experiment) -> None:
    where = ["--env-manager", "local", "--experiment-name", experiment.name]
    ended = run_command("mlflow", "run", ".", *where, "-P", "hydra_options=main.random_sed=1")
    assert ended.returncode != 0
    assert "did you mean 'main.random_seed'?" in ended.stderr
    (run,) = experiment.client.search_runs([experiment.id])
    assert run.info.status == "FAILED"


def test_deleted_experiment_is_named_with_the_command_that_restores_it(
    experiment: Experiment, main_here: Callable[..., StepResult]
) -> None:
    experiment.client.delete_experiment(experiment.id)
    ended = main_here(experiment)
    assert ended.status == 1
    assert "Traceback" not in ended.message
    assert f"BadParameter: experiment '{experiment.name}': deleted" in ended.message
    assert f"mlflow experiments restore --experiment-id {experiment.id}" in ended.message
    assert "main.experiment_name" in ended.message


def test_step_that_was_never_run_is_named_with_the_command_that_runs_it(experiment: Experiment) -> None:
    result = run_here(experiment, "main.execute_steps=segregate")
    assert "no finished 'preprocess' run" in str(result.error)
    assert "main.execute_steps=preprocess" in str(result.error)


def test_failing_step_stops_the_pipeline_and_shows_its_message(experiment: Experiment, tmp_path: Path) -> None:
    table = write_small_table(tmp_path)
    table.write_text(table.read_text().replace("LIMIT_BAL", "LIMIT"))
    result = run_here(experiment, f"data.file_url={table}")
    assert isinstance(result.error, StepFailed)
    assert str(result.error).startswith("TableUnfit: ")
    assert "raw_data.csv: 1 of 24 columns missing: LIMIT_BAL" in str(result.error)
    assert choose_help_page(str(result.error)) == PAGES["TableUnfit"]
    pipeline = result.runs
    assert pipeline.parent.info.status == "FAILED"
    assert "LIMIT_BAL" in pipeline.parent.data.tags["error"]
    assert {name: run.info.status for name, run in pipeline.steps.items()} == {
        "download": "FINISHED",
        "preprocess": "FAILED",
    }
    assert not experiment.current("preprocess")

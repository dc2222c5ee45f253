"""A sweep that compares two kinds of model: one table, one refit, and a gate that compares across kinds."""

from __future__ import annotations

import subprocess
from pathlib import Path

import mlflow
import pytest
import yaml
from mlflow.entities import Run

from pipeline.tags import BEST_JOB, STEP_RUN
from tests.conftest import Experiment, create_experiment, run_command
from tests.support.pipelines import make_pipeline_command, run_here, write_small_table
from tests.support.sweep_runs import FOREST, PREPARING, get_sweep, list_jobs

BOOSTING = "gradient_boosting_pipeline.gradient_boosting"
SMALL = (
    f"{FOREST}.n_estimators=5",
    f"{BOOSTING}.max_iter=20",
    "evaluate.resamples=100",
    "evaluate.importance_rows=100",
)
KINDS = ("random_forest", "gradient_boosting")


@pytest.fixture(scope="module")
def place(store: str, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    mlflow.set_tracking_uri(store)
    return create_experiment("kinds", tmp_path_factory.mktemp("kinds"))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"data.file_url={write_small_table(tmp_path_factory.mktemp('table'))}"


@pytest.fixture(scope="module")
def swept(place: Experiment, table: str) -> subprocess.CompletedProcess[str]:
    points = [f"model={','.join(KINDS)}", f"{FOREST}.max_depth=2,3"]
    ended = run_command(*make_pipeline_command(place, "-m", *points, *SMALL, table))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended


@pytest.fixture(scope="module")
def jobs(place: Experiment, swept: object) -> list[Run]:
    return list_jobs(place, get_sweep(place))


@pytest.fixture(scope="module")
def best(place: Experiment, jobs: list[Run]) -> Run:
    best_id = get_sweep(place).data.tags[BEST_JOB]
    return next(job for job in jobs if job.info.run_id == best_id)


def read_refit(place: Experiment, job: Run) -> bool:
    """Return the setting `refit` that the model step of a job read last."""
    file = place.client.download_artifacts(job.info.run_id, f"config/{job.data.params['model']}.yaml")
    return bool(yaml.safe_load(Path(file).read_text(encoding="utf-8"))["refit"])


def test_one_table_has_a_row_per_job_and_names_the_kinds(
    swept: subprocess.CompletedProcess[str], jobs: list[Run], best: Run
) -> None:
    assert [job.data.params["model"] for job in jobs] == ["random_forest", "random_forest", "gradient_boosting"]
    rows = [line.split("│") for line in swept.stdout.splitlines() if line.startswith("│")]
    shown = {row[1].strip(): (row[2].strip(), row[3].strip(), row[-2].strip()) for row in rows}
    marks = {job.data.tags["job"]: "best" if job is best else "" for job in jobs}
    assert shown == {
        "0": ("random_forest", "2", marks["0"]),
        "1": ("random_forest", "3", marks["1"]),
        "2": ("gradient_boosting", "", marks["2"]),
    }


def test_shared_steps_run_once_and_each_model_is_fitted_once(place: Experiment, jobs: list[Run], best: Run) -> None:
    assert [len(place.runs(name)) for name in PREPARING] == [1, 1, 1, 1]
    fits = {kind: sum(job.data.params["model"] == kind for job in jobs) for kind in KINDS}
    refitted = best.data.params["model"]
    assert {kind: len(place.runs(kind)) for kind in KINDS} == {**fits, refitted: fits[refitted] + 1}


def test_only_the_best_job_is_refitted_and_its_refit_is_what_the_gate_judges(
    place: Experiment, jobs: list[Run], best: Run
) -> None:
    assert [job.info.run_id for job in jobs if read_refit(place, job)] == [best.info.run_id]
    kind = best.data.params["model"]
    refit = best.data.tags[STEP_RUN + kind]
    assert best.data.tags[f"why.{kind}"] == "refit false -> true"
    assert [run.info.run_id for run in place.current(kind)] == [refit]
    (evaluate,) = place.runs("evaluate")
    assert evaluate.data.tags["input.model_export"] == f"runs:/{refit}/model_export"
    assert place.client.get_model_version_by_alias(place.id_name, "champion").run_id == refit


def test_a_pipeline_with_the_settings_of_the_best_job_reuses_all_its_steps(
    place: Experiment, table: str, best: Run
) -> None:
    again = run_here(place, *best.data.tags["overrides"].splitlines(), *SMALL, table)
    assert again.error is None, again.said
    assert set(again.states.values()) == {"reused"}
    assert len(again.states) == 7


def test_the_gate_compares_a_model_with_a_champion_of_another_kind(place: Experiment, table: str, best: Run) -> None:
    (other,) = {*KINDS} - {best.data.params["model"]}
    ended = run_here(place, f"model={other}", *SMALL, table)
    assert ended.error is None, ended.said
    assert ended.runs.steps[other].data.tags["step"] == other
    champion = place.client.get_model_version_by_alias(place.id_name, "champion")
    verdict = yaml.safe_load(ended.runs.artifact(place, "evaluate", "verdict.json").read_text(encoding="utf-8"))
    assert verdict["champion_version"] == "1"
    assert {"not_worse_than_champion", "better_than_champion"} <= {rule["name"] for rule in verdict["rules"]}
    version = place.client.get_model_version(place.id_name, "2")
    words = {"random_forest": "Random forest", "gradient_boosting": "Gradient boosting"}
    assert str(version.description).startswith(f"{words[other]}, trained on")
    assert (champion.version == "2") == verdict["passed"]
    report = ended.runs.parent
    text = Path(place.client.download_artifacts(report.info.run_id, "report.md")).read_text(encoding="utf-8")
    assert f"{words[other]} " in text
    assert f"model={other}" in text

"""Sweeps: one run with nested jobs, shared steps that run once, and a best job that is evaluated and registered."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.entities import Run

from pipeline.tags import STEP_RUN
from tests.conftest import Experiment, create_experiment, run_command
from tests.support.pipelines import make_pipeline_command, write_small_table
from tests.support.sweep_runs import FOREST, PREPARING, get_sweep, list_jobs


def make_place(name: str, factory: pytest.TempPathFactory) -> Experiment:
    return create_experiment(name, factory.mktemp(re.sub(r"\W", "", name)))


class TestGrid:
    """`mlflow run . -P hydra_options="-m ..."` over 2 x 3 points, two of which are invalid."""

    @pytest.fixture(scope="class")
    @classmethod
    def place(cls, store: str, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
        mlflow.set_tracking_uri(store)
        return make_place("grid sweep", tmp_path_factory)

    @pytest.fixture(scope="class")
    @classmethod
    def swept(cls, place: Experiment, tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
        table = write_small_table(tmp_path_factory.mktemp("table"))
        points = f"{FOREST}.n_estimators=10,15 {FOREST}.max_depth=3,5,-1"
        options = f"-m {points} data.file_url={table} register.model_name={place.id_name}"
        where = ["--env-manager", "local", "--experiment-name", place.name]
        return run_command("mlflow", "run", ".", *where, "-P", f"hydra_options={options}")

    @pytest.fixture(scope="class")
    @classmethod
    def jobs(cls, place: Experiment, swept: object) -> list[Run]:
        return list_jobs(place, get_sweep(place))

    def test_a_job_per_point_is_nested_under_the_launching_run(self, place: Experiment, jobs: list[Run]) -> None:
        assert get_sweep(place).data.tags["mlflow.source.type"] == "PROJECT"
        points = {
            tuple(job.data.params.get(f"swept.{FOREST}.{key}") for key in ("n_estimators", "max_depth")) for job in jobs
        }
        assert points == {(trees, depth) for trees in ("10", "15") for depth in ("3", "5")} | {(None, None)}
        assert [job.data.tags["job"] for job in jobs] == ["0", "1", "2", "3", "4", "5"]

    def test_failing_jobs_are_reported_and_the_others_kept(
        self, swept: subprocess.CompletedProcess[str], jobs: list[Run]
    ) -> None:
        assert swept.returncode != 0
        assert Counter(job.info.status for job in jobs) == {"FINISHED": 4, "FAILED": 2}
        for number, trees in ((2, 10), (5, 15)):
            assert f"job {number}: n_estimators={trees} max_depth=-1: {FOREST}.max_depth: " in swept.stderr

    def test_shared_steps_ran_once(self, place: Experiment, jobs: list[Run]) -> None:
        for name in PREPARING:
            (run,) = place.runs(name)
            holders = {job.data.tags.get(STEP_RUN + name) for job in jobs if job.info.status == "FINISHED"}
            assert holders == {run.info.run_id}
        assert len(place.runs("random_forest")) == 4 + 1, "one per valid point, and the refit of the best"

    def test_the_test_split_is_scored_for_the_best_job_only(self, place: Experiment, jobs: list[Run]) -> None:
        best = max(
            (job for job in jobs if job.info.status == "FINISHED"), key=lambda job: job.data.metrics["val_roc_auc"]
        )
        assert get_sweep(place).data.tags["best_job"] == best.info.run_id
        (evaluate,) = place.runs("evaluate")
        assert evaluate.data.tags["mlflow.parentRunId"] == best.info.run_id
        assert get_sweep(place).data.metrics["test_roc_auc"] == evaluate.data.metrics["test_roc_auc"]
        champion = place.client.get_model_version_by_alias(place.id_name, "champion")
        assert champion.run_id == best.data.tags[STEP_RUN + "random_forest"]
        other_jobs = [job for job in jobs if job.info.run_id != best.info.run_id]
        assert not any("test_roc_auc" in job.data.metrics for job in other_jobs)

    def test_the_best_job_has_a_report(
        self, place: Experiment, swept: subprocess.CompletedProcess[str], jobs: list[Run]
    ) -> None:
        holders = [
            job
            for job in jobs
            if "report.html" in {artifact.path for artifact in place.client.list_artifacts(job.info.run_id)}
        ]
        assert [job.info.run_id for job in holders] == [get_sweep(place).data.tags["best_job"]]
        assert swept.stdout.count("report.html") == 1
        text = Path(place.client.download_artifacts(holders[0].info.run_id, "report.md")).read_text(encoding="utf-8")
        command = next(line for line in text.splitlines() if line.startswith("mlflow run ."))
        swept_values = [holders[0].data.params[f"swept.{FOREST}.{key}"] for key in ("n_estimators", "max_depth")]
        for key, value in zip(("n_estimators", "max_depth"), swept_values, strict=True):
            assert command.count(f"{FOREST}.{key}=") == command.count(f"{FOREST}.{key}={value}") == 1

    def test_table_and_plot_lie_with_the_sweeps_run(
        self, place: Experiment, swept: subprocess.CompletedProcess[str], jobs: list[Run]
    ) -> None:
        sweep = get_sweep(place)
        table = pd.read_csv(place.client.download_artifacts(sweep.info.run_id, "sweep.csv"))
        assert list(table["run_id"]) == [job.info.run_id for job in jobs]
        assert list(table["status"]).count("FAILED") == 2
        assert Path(place.client.download_artifacts(sweep.info.run_id, "sweep.png")).read_bytes().startswith(b"\x89PNG")
        best = next(job for job in jobs if job.info.run_id == sweep.data.tags["best_job"])
        shown = next(line for line in swept.stdout.splitlines() if line.rstrip(" │").endswith("best"))
        assert f"{best.data.metrics['val_roc_auc']:.4f}" in shown

    def test_the_same_sweep_again_resumes_where_the_first_ended(self, place: Experiment, jobs: list[Run]) -> None:
        trained = len(place.runs("random_forest"))
        source = place.runs("download")[0].data.tags["source_url"]
        options = [f"{FOREST}.n_estimators=10,15", f"{FOREST}.max_depth=3,5", f"data.file_url={source}"]
        again = run_command(*make_pipeline_command(place, "-m", *options))
        assert again.returncode == 0, again.stdout + again.stderr
        assert len(place.runs("random_forest")) == trained
        assert len(place.runs("evaluate")) == 1
        assert again.stdout.count("0 ran, 5 reused") == 4


def test_a_sweep_whose_jobs_all_fail_leaves_its_table_and_names_no_plot(experiment: Experiment) -> None:
    ended = run_command(*make_pipeline_command(experiment, "-m", f"{FOREST}.max_depth=-1,-2"))
    assert ended.returncode == 1
    (sweep,) = [run for run in experiment.client.search_runs([experiment.id]) if run.info.run_name == "sweep"]
    assert [artifact.path for artifact in experiment.client.list_artifacts(sweep.info.run_id)] == ["sweep.csv"]
    assert "best_job" not in sweep.data.tags
    assert "sweep.csv of the sweep's run" in ended.stdout
    assert "sweep.png" not in ended.stdout

"""The sweep commands of the README."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import Experiment, run_command
from tests.pipelines import run_pipeline, small_table


def test_sweep_runs_a_pipeline_per_point_nested_under_the_launching_run(experiment: Experiment, tmp_path: Path) -> None:
    """`mlflow run . -P hydra_options="-m ..."`, with the shared steps run before and the rest per point."""
    prepared = run_pipeline(
        experiment, f"data.file_url={small_table(tmp_path)}", "main.execute_steps=[download,preprocess,segregate]"
    )
    assert prepared.returncode == 0, prepared.stdout + prepared.stderr
    forest = "random_forest_pipeline.random_forest"
    options = f"-m {forest}.n_estimators=10,15 {forest}.max_depth=range(3,6,2) main.execute_steps=random_forest"
    where = ["--env-manager", "local", "--experiment-name", experiment.name]
    swept = run_command("mlflow", "run", ".", *where, "-P", f"hydra_options={options}")
    assert swept.returncode == 0, swept.stdout + swept.stderr
    points = {}
    for run in experiment.runs("random_forest"):
        assert run.info.status == "FINISHED"
        job = experiment.client.get_run(run.data.tags["mlflow.parentRunId"])
        launching = experiment.client.get_run(job.data.tags["mlflow.parentRunId"])
        assert launching.data.tags["mlflow.source.type"] == "PROJECT"
        settings = [int(job.data.params[f"random_forest.{name}"]) for name in ("n_estimators", "max_depth")]
        points[tuple(settings)] = run.data.metrics["val_roc_auc"]
    assert set(points) == {(10, 3), (10, 5), (15, 3), (15, 5)}
    assert len(set(points.values())) > 1

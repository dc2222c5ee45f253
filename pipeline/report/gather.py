"""Data of a report on one pipeline run, from the tracking server only, so that any machine can write the report."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID

from pipeline.report.artifact_reader import Reader
from pipeline.report.schemas import Estimate, Evaluation, Verdict, parse_as
from pipeline.report.step_states import StepRow, find_model_step, list_step_rows
from pipeline.tags import BEST_JOB, CONFIG_ARTIFACT, JOB, STEP_RUN
from stepkit.errors import BadParameter
from stepkit.secret_urls import hide_secrets
from stepkit.store import tracking
from stepkit.store.lineage import MODEL_ID, NEWEST_FIRST, PIPELINE, STEP, find_run

EVALUATION = "evaluation.json"
PLOTS = (
    "roc_curve.png", "precision_recall.png", "calibration.png", "score_distribution.png", "confusion_matrix.png",
    "importance.png", "effects.png", "gains.png", "strategy.png",
)  # fmt: skip
CHECKS, KS, LEAKAGE = "data_checks.csv", "ks_statistics.csv", "leakage.csv"
MODEL_IMPORTANCE = "feature_importance.png"
INFORMATION, INFORMATION_PICTURE = "iv.csv", "iv.png"
"""Information values of the columns, which the model step publishes."""


@dataclass(frozen=True)
class Base:
    """Test results of another pipeline run.

    Attributes:
        name: its name on the page.
        data: the value of `data` in its configuration.
        test_rows: digest of its test rows; "" if unknown.
    """

    name: str
    data: str
    test_rows: str
    evaluation: Evaluation


@dataclass(frozen=True)
class PipelineResult:
    """Data of a report. Missing data are None or empty; `lost` or the state of the step gives the reason.

    Attributes:
        run: the pipeline run.
        config: its resolved configuration.
        runs: step runs by step; None for a deleted run.
        information: rows of iv.csv, the column with the largest information value first; its picture in base64.
        versions: requirements of the model, and its Python version.
        registered: the model version in its present state.
        sweep: the sweep, if the pipeline run is one of its jobs.
        base: another pipeline run to compare with, on request.
        lost: sentences about missing data.
        made: time of collection (ms since 1970).
    """

    run: Run
    experiment: str
    config: dict[str, Any]
    runs: dict[str, Run | None]
    steps: list[StepRow]
    evaluation: Evaluation | None
    verdict: Verdict | None
    checks: list[dict[str, str]]
    ks: list[dict[str, str]]
    leakage: list[dict[str, str]]
    pictures: dict[str, str]
    information: list[dict[str, str]]
    versions: list[str]
    registered: ModelVersion | None
    sweep: Run | None
    base: Base | None
    lost: list[str]
    made: int

    @property
    def model(self) -> str:
        """Name of the model step."""
        return find_model_step(self.config, self.runs)

    def get_tag(self, step: str, name: str) -> str:
        """Return a tag of a step run, or ""."""
        run = self.runs.get(step)
        return str(run.data.tags.get(name, "")) if run else ""

    def get_metric(self, step: str, name: str) -> float | None:
        """Return a metric of a step run, or None."""
        run = self.runs.get(step)
        return run.data.metrics.get(name) if run else None


def gather(client: MlflowClient, run_id: str, folder: Path, base_run_id: str = "") -> PipelineResult:
    """Return the data of a report.

    Args:
        client: client of the tracking server.
        run_id: a pipeline run, or a sweep, which stands for its best job.
        folder: temporary folder for downloads.
        base_run_id: another pipeline run to compare the metrics with.

    Raises:
        BadParameter: the run does not exist or is not a pipeline run.
        MlflowException: the tracking server is unreachable.
    """
    reader = Reader(client, folder)
    run = get_pipeline_run(client, run_id)
    runs = reader.fetch_runs(_read_step_ids(run), run.info.experiment_id)
    config = _fetch_config(reader, run)
    names = (find_model_step(config, runs), "evaluate", "check_data")
    training, evaluate, check_data = (runs.get(name) for name in names)
    return PipelineResult(
        run=run,
        experiment=client.get_experiment(run.info.experiment_id).name,
        config=config,
        runs=runs,
        steps=list_step_rows(reader, run, runs, config),
        evaluation=_fetch_evaluation(reader, evaluate),
        verdict=_fetch_verdict(reader, evaluate),
        checks=reader.fetch_csv(check_data, CHECKS),
        ks=reader.fetch_csv(check_data, KS),
        leakage=reader.fetch_csv(check_data, LEAKAGE),
        pictures=_fetch_pictures(reader, runs, training),
        information=reader.fetch_csv(training, INFORMATION),
        versions=_fetch_versions(reader, training),
        registered=_find_registered(client, runs.get("register")),
        sweep=_find_sweep(reader, run),
        base=_find_base(reader, base_run_id),
        lost=reader.lost,
        made=time.time_ns() // 1_000_000,
    )


def get_pipeline_run(client: MlflowClient, run_id: str) -> Run:
    """Return a pipeline run by its id. The id of a sweep stands for its best job.

    Raises:
        BadParameter: the run does not exist or is another kind of run. The message names the right run.
    """
    url = hide_secrets(mlflow.get_tracking_uri())
    with tracking.handle_missing(
        lambda _: BadParameter(
            f"run '{run_id}': not found on {url}. Find its id in the output of the pipeline run, or in: make ui"
        )
    ):
        run = client.get_run(run_id)
    tags = run.data.tags
    if best := tags.get(BEST_JOB):
        return client.get_run(best)
    if STEP in tags and not _read_step_ids(run):
        parent_id = tags.get(MLFLOW_PARENT_RUN_ID, "")
        hint = f"Its pipeline run: {parent_id}." if parent_id else "It does not belong to a pipeline run."
        raise BadParameter(f"run {run_id}: not a pipeline run but a run of the step {tags[STEP]}. {hint}")
    if PIPELINE in tags and tags[PIPELINE] != run_id:
        raise BadParameter(
            f"run {run_id}: only the command that started a pipeline run. Its pipeline run: {tags[PIPELINE]}."
        )
    if PIPELINE not in tags:
        raise BadParameter(f"run {run_id}: not a pipeline run.")
    return run


def _read_step_ids(run: Run) -> dict[str, str]:
    return {key.removeprefix(STEP_RUN): run_id for key, run_id in run.data.tags.items() if key.startswith(STEP_RUN)}


def find_newest_pipeline(client: MlflowClient, experiment_ids: list[str], condition: str) -> Run | None:
    """Return the newest pipeline run of these experiments that meets a condition, or None."""
    condition = f"{condition} and tags.{PIPELINE} != ''"
    runs = client.search_runs(experiment_ids, condition, order_by=NEWEST_FIRST) if experiment_ids else []
    return next((run for run in runs if run.data.tags.get(PIPELINE) == run.info.run_id), None)


def _fetch_config(reader: Reader, run: Run) -> dict[str, Any]:
    text = reader.fetch_text(run, CONFIG_ARTIFACT)
    if text is None:
        reader.lost.append(f"{CONFIG_ARTIFACT} of the pipeline run is not in the artifact store.")
    config: dict[str, Any] = yaml.safe_load(text or "{}")
    return config


def _fetch_evaluation(reader: Reader, evaluate: Run | None) -> Evaluation | None:
    """Return the results on the test split, from the logged metrics if evaluation.json is lost."""
    evaluation = parse_as(Evaluation, reader.fetch_json(evaluate, EVALUATION), EVALUATION, reader.lost)
    if evaluation or evaluate is None:
        return evaluation
    logged = evaluate.data.metrics
    metrics = {
        name.removeprefix("test_"): Estimate(
            value=value, low=logged.get(f"{name}.low"), high=logged.get(f"{name}.high")
        )
        for name, value in logged.items()
        if name.startswith("test_") and "." not in name
    }
    return Evaluation(metrics=metrics) if metrics else None


def _fetch_verdict(reader: Reader, evaluate: Run | None) -> Verdict | None:
    name = evaluate.data.params.get("verdict", "verdict.json") if evaluate else ""
    return parse_as(Verdict, reader.fetch_json(evaluate, name), "The verdict", reader.lost)


def _fetch_pictures(reader: Reader, runs: dict[str, Run | None], training: Run | None) -> dict[str, str]:
    """Return each plot in base64, with the importance by the model if the permutation importance is missing."""
    pictures = {name: reader.fetch_base64(runs.get("evaluate"), name) for name in PLOTS}
    pictures[INFORMATION_PICTURE] = reader.fetch_base64(training, INFORMATION_PICTURE)
    if not pictures["importance.png"]:
        pictures[MODEL_IMPORTANCE] = reader.fetch_base64(training, MODEL_IMPORTANCE)
    return {name: picture for name, picture in pictures.items() if picture}


def _fetch_versions(reader: Reader, training: Run | None) -> list[str]:
    model = training.data.tags.get(MODEL_ID) if training else None
    if not model:
        return []
    with tracking.handle_missing(None, yaml.YAMLError, KeyError, TypeError):
        files = reader.client.get_logged_model(model).artifact_location
        file = mlflow.artifacts.download_artifacts(f"{files}/conda.yaml", dst_path=str(reader.folder))
        *conda, pip = yaml.safe_load(Path(file).read_text(encoding="utf-8"))["dependencies"]
        return [*(line for line in conda if not line.startswith("pip")), *pip["pip"]]
    reader.lost.append(f"The files of model {model} are no longer in the artifact store.")
    return []


def _find_registered(client: MlflowClient, register: Run | None) -> ModelVersion | None:
    tags = register.data.tags if register else {}
    if "model_version" not in tags:
        return None
    with tracking.handle_missing():
        return client.get_model_version(tags["model_name"], tags["model_version"])
    return None


def _find_sweep(reader: Reader, run: Run) -> Run | None:
    parent_id = run.data.tags.get(MLFLOW_PARENT_RUN_ID)
    return find_run(reader.client, parent_id) if parent_id and JOB in run.data.tags else None


def _find_base(reader: Reader, run_id: str) -> Base | None:
    """Return the results of another pipeline run. Without metrics, its column shows "not computed"."""
    if not run_id:
        return None
    run = get_pipeline_run(reader.client, run_id)
    evaluate = find_run(reader.client, _read_step_ids(run).get("evaluate", ""))
    evaluation = _fetch_evaluation(reader, evaluate)
    if evaluation is None:
        reader.lost.append(f"Base run {run.info.run_id} has no test metrics to compare with.")
    return make_base(run, f"pipeline run {run.info.run_id}", evaluate, evaluation or Evaluation(metrics={}))


def make_base(run: Run, name: str, evaluate: Run | None, evaluation: Evaluation) -> Base:
    """Return the results of a pipeline run for a comparison."""
    return Base(name, run.data.params.get("data", "unknown"), find_test_digest(evaluate), evaluation)


def find_test_digest(evaluate: Run | None) -> str:
    """Return the digest of the test rows, or ""."""
    for dataset_input in evaluate.inputs.dataset_inputs if evaluate and evaluate.inputs else []:
        if any((tag.key, tag.value) == (MLFLOW_DATASET_CONTEXT, "testing") for tag in dataset_input.tags):
            return str(dataset_input.dataset.digest)
    return ""

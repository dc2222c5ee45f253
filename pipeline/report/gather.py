"""Gather what a report says of one pipeline run, through the tracking server alone: any finished run, any machine."""

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
from pipeline.report.step_states import StepRow, list_step_rows
from pipeline.tags import BEST_JOB, CONFIG_ARTIFACT, JOB, STEP_RUN
from stepkit.errors import BadParameter
from stepkit.secret_urls import hide_secrets
from stepkit.store import tracking
from stepkit.store.lineage import MODEL_ID, NEWEST_FIRST, PIPELINE, STEP, find_run

EVALUATION = "evaluation.json"
PLOTS = (
    "roc_curve.png", "precision_recall.png", "calibration.png", "score_distribution.png", "confusion_matrix.png",
    "importance.png",
)  # fmt: skip
CHECKS, KS = "data_checks.csv", "ks_statistics.csv"
FOREST_IMPORTANCE = "feature_importance.png"


@dataclass(frozen=True)
class Base:
    """Results of another pipeline on the test split.

    Attributes:
        name: what it is called on the page.
        data: the choice of `data` in its configuration.
        test_rows: digest of the rows that it was tested on; "" if they are not known.
    """

    name: str
    data: str
    test_rows: str
    evaluation: Evaluation


@dataclass(frozen=True)
class PipelineResult:
    """Everything that a report is about; what a run lacks is None or empty, with the reason in `lost` or on its step.

    Attributes:
        run: the pipeline's own run; `config` is its resolved configuration, `sweep` the sweep that it is a job of.
        runs: the run of each step by the step's name; None for one that was deleted.
        versions: the requirements of the model, and the Python that it was made with.
        registered: the version as the registry knows it now.
        base: another pipeline to compare with, besides the champion, on request.
        lost: sentences about what is missing.
        made: when this was gathered (ms since 1970).
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
    pictures: dict[str, str]
    versions: list[str]
    registered: ModelVersion | None
    sweep: Run | None
    base: Base | None
    lost: list[str]
    made: int

    def tag(self, step: str, name: str) -> str:
        run = self.runs.get(step)
        return str(run.data.tags.get(name, "")) if run else ""

    def metric(self, step: str, name: str) -> float | None:
        run = self.runs.get(step)
        return run.data.metrics.get(name) if run else None


def gather(client: MlflowClient, run_id: str, folder: Path, base_run_id: str = "") -> PipelineResult:
    """Gather what is known of a pipeline run.

    Args:
        run_id: the run of a pipeline, or of a sweep, which stands for its best job.
        folder: a temporary place for downloads.
        base_run_id: another one, to compare the metrics with.

    Raises:
        BadParameter: no such run, or not the run of a pipeline.
        MlflowException: the tracking server does not answer.
    """
    reader = Reader(client, folder)
    run = get_pipeline_run(client, run_id)
    runs = reader.runs(_read_step_ids(run), run.info.experiment_id)
    config = _fetch_config(reader, run)
    evaluate, check_data = runs.get("evaluate"), runs.get("check_data")
    verdict_name = evaluate.data.params.get("verdict", "verdict.json") if evaluate else ""
    return PipelineResult(
        run=run,
        experiment=client.get_experiment(run.info.experiment_id).name,
        config=config,
        runs=runs,
        steps=list_step_rows(reader, run, runs, config),
        evaluation=_fetch_evaluation(reader, evaluate),
        verdict=parse_as(Verdict, reader.json(evaluate, verdict_name), "the verdict", reader.lost),
        checks=reader.rows(check_data, CHECKS),
        ks=reader.rows(check_data, KS),
        pictures=_fetch_pictures(reader, runs),
        versions=_fetch_versions(reader, runs.get("random_forest")),
        registered=_find_registered(client, runs.get("register")),
        sweep=_find_sweep(reader, run),
        base=_find_base(reader, base_run_id),
        lost=reader.lost,
        made=time.time_ns() // 1_000_000,
    )


def get_pipeline_run(client: MlflowClient, run_id: str) -> Run:
    """Return the run of a pipeline by its id; a sweep's id means the best job.

    Raises:
        BadParameter: there is no such run, or it is another kind of run: the message names the one that was meant.
    """
    where = hide_secrets(mlflow.get_tracking_uri())
    with tracking.handle_missing(lambda _: BadParameter(f"no run '{run_id}' on {where}. The closing table names it.")):
        run = client.get_run(run_id)
    tags = run.data.tags
    if best := tags.get(BEST_JOB):
        return client.get_run(best)
    if STEP in tags and not _read_step_ids(run):
        above = tags.get(MLFLOW_PARENT_RUN_ID, "")
        hint = f"It was made by the pipeline run {above}." if above else "It was run alone."
        raise BadParameter(f"run {run_id} is one of the step {tags[STEP]}, and not a pipeline's. {hint}")
    if PIPELINE in tags and tags[PIPELINE] != run_id:
        raise BadParameter(f"run {run_id} only started a pipeline; its own run is {tags[PIPELINE]}.")
    if PIPELINE not in tags:
        raise BadParameter(f"run {run_id} is not a pipeline's run.")
    return run


def _read_step_ids(run: Run) -> dict[str, str]:
    return {key.removeprefix(STEP_RUN): run_id for key, run_id in run.data.tags.items() if key.startswith(STEP_RUN)}


def find_newest_pipeline(client: MlflowClient, experiment_ids: list[str], condition: str) -> Run | None:
    """Return the pipeline run that ended last, of those in some experiments that meet a condition; None without one."""
    chosen = f"{condition} and tags.{PIPELINE} != ''"
    runs = client.search_runs(experiment_ids, chosen, order_by=NEWEST_FIRST) if experiment_ids else []
    return next((run for run in runs if run.data.tags.get(PIPELINE) == run.info.run_id), None)


def _fetch_config(reader: Reader, run: Run) -> dict[str, Any]:
    text = reader.unlisted(run, CONFIG_ARTIFACT)
    if text is None:
        reader.lost.append(f"{CONFIG_ARTIFACT} of the pipeline's run is not in the artifact store.")
    config: dict[str, Any] = yaml.safe_load(text or "{}")
    return config


def _fetch_evaluation(reader: Reader, evaluate: Run | None) -> Evaluation | None:
    """Results on the test split; if evaluation.json is lost, what the run has logged as metrics."""
    found = parse_as(Evaluation, reader.json(evaluate, EVALUATION), EVALUATION, reader.lost)
    if found or evaluate is None:
        return found
    logged = evaluate.data.metrics
    metrics = {
        name.removeprefix("test_"): Estimate(
            value=value, low=logged.get(f"{name}.low"), high=logged.get(f"{name}.high")
        )
        for name, value in logged.items()
        if name.startswith("test_") and "." not in name
    }
    return Evaluation(metrics=metrics) if metrics else None


def _fetch_pictures(reader: Reader, runs: dict[str, Run | None]) -> dict[str, str]:
    """Each plot in base64; where there is no permutation importance, what the forest says of itself stands for it."""
    found = {name: reader.picture(runs.get("evaluate"), name) for name in PLOTS}
    if not found["importance.png"]:
        found[FOREST_IMPORTANCE] = reader.picture(runs.get("random_forest"), FOREST_IMPORTANCE)
    return {name: picture for name, picture in found.items() if picture}


def _fetch_versions(reader: Reader, forest: Run | None) -> list[str]:
    model = forest.data.tags.get(MODEL_ID) if forest else None
    if not model:
        return []
    with tracking.handle_missing(None, yaml.YAMLError, KeyError, TypeError):
        files = reader.client.get_logged_model(model).artifact_location
        file = mlflow.artifacts.download_artifacts(f"{files}/conda.yaml", dst_path=str(reader.folder))
        *conda, pip = yaml.safe_load(Path(file).read_text(encoding="utf-8"))["dependencies"]
        return [*(line for line in conda if not line.startswith("pip")), *pip["pip"]]
    reader.lost.append(f"the files of model {model} are not in the artifact store any more.")
    return []


def _find_registered(client: MlflowClient, register: Run | None) -> ModelVersion | None:
    tags = register.data.tags if register else {}
    if "model_version" not in tags:
        return None
    with tracking.handle_missing():
        return client.get_model_version(tags["model_name"], tags["model_version"])
    return None


def _find_sweep(reader: Reader, run: Run) -> Run | None:
    above = run.data.tags.get(MLFLOW_PARENT_RUN_ID)
    return find_run(reader.client, above) if above and JOB in run.data.tags else None


def _find_base(reader: Reader, run_id: str) -> Base | None:
    """Results of another pipeline; without any metrics its column says "not computed"."""
    if not run_id:
        return None
    run = get_pipeline_run(reader.client, run_id)
    evaluate = find_run(reader.client, _read_step_ids(run).get("evaluate", ""))
    evaluation = _fetch_evaluation(reader, evaluate)
    if evaluation is None:
        reader.lost.append(f"the base run {run.info.run_id} has no metrics of the test split to be held against.")
    return make_base(run, f"pipeline run {run.info.run_id}", evaluate, evaluation or Evaluation(metrics={}))


def make_base(run: Run, name: str, evaluate: Run | None, evaluation: Evaluation) -> Base:
    """Return the results of a pipeline's run as another pipeline is compared with them."""
    return Base(name, run.data.params.get("data", "unknown"), test_rows(evaluate), evaluation)


def test_rows(evaluate: Run | None) -> str:
    """Return the digest of the rows that a model was tested on, or ""."""
    for one in evaluate.inputs.dataset_inputs if evaluate and evaluate.inputs else []:
        if any((tag.key, tag.value) == (MLFLOW_DATASET_CONTEXT, "testing") for tag in one.tags):
            return str(one.dataset.digest)
    return ""

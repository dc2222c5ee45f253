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
from pipeline.report.schemas import Estimate, Evaluation, Verdict, read_as
from pipeline.report.step_states import StepShown, states_of
from pipeline.tags import BEST_JOB, CONFIG_ARTIFACT, JOB, STEP_RUN
from stepkit.errors import BadParameter
from stepkit.secret_urls import shown
from stepkit.store import tracking
from stepkit.store.lineage import MODEL_ID, PIPELINE, STEP, find_run

EVALUATION = "evaluation.json"
PLOTS = (
    "roc_curve.png", "precision_recall.png", "calibration.png", "score_distribution.png", "confusion_matrix.png",
    "importance.png",
)  # fmt: skip
CHECKS, KS = "data_checks.csv", "ks_statistics.csv"
MODEL_IMPORTANCE = "feature_importance"


@dataclass(frozen=True)
class Base:
    """What another pipeline found on the test split; `same_rows` is None where its rows are not known."""

    run_id: str
    evaluation: Evaluation
    same_rows: bool | None


@dataclass(frozen=True)
class Found:
    """Everything that a report is about; what a run lacks is None or empty, and why stands in `lost` or on its step.

    Attributes:
        run: the pipeline's own run.
        config: its resolved configuration; empty if that is gone.
        runs: the run of each step by the step's name; None for one that is gone.
        versions: what the model needs, one requirement a line, and the Python that it was made with.
        registered: the version in the registry as it stands now.
        sweep: the sweep that the pipeline is a job of.
        base: what the pipeline is held against beside the champion, if a person asked for that.
        lost: sentences about what should be there and is not.
        made: when this was gathered (ms since 1970).
    """

    run: Run
    experiment: str
    config: dict[str, Any]
    runs: dict[str, Run | None]
    steps: list[StepShown]
    evaluation: Evaluation | None
    verdict: Verdict | None
    checks: list[dict[str, str]]
    ks: list[dict[str, str]]
    importance: list[dict[str, str]]
    pictures: dict[str, str]
    versions: list[str]
    registered: ModelVersion | None
    sweep: Run | None
    base: Base | None
    lost: list[str]
    made: int

    def step_run(self, name: str) -> Run | None:
        return self.runs.get(name)

    def tag(self, step: str, name: str) -> str:
        run = self.runs.get(step)
        return str(run.data.tags.get(name, "")) if run else ""

    def metric(self, step: str, name: str) -> float | None:
        run = self.runs.get(step)
        return run.data.metrics.get(name) if run else None


def gather(client: MlflowClient, run_id: str, folder: Path, base_run_id: str = "") -> Found:
    """Gather what is known of a pipeline run.

    Args:
        run_id: the run of a pipeline, or of a sweep, which stands for its best job.
        folder: where downloads may lie for the while.
        base_run_id: another one, whose metrics are shown beside.

    Raises:
        BadParameter: no such run, or one that is no pipeline's.
        MlflowException: the tracking server does not answer.
    """
    reader = Reader(client, folder)
    run = pipeline_run(client, run_id)
    named = {key.removeprefix(STEP_RUN): one for key, one in _step_tags(run).items()}
    runs = reader.runs(named, run.info.experiment_id)
    reader.fetch_all(_wanted(runs))
    config = _config(reader, run)
    evaluate, check_data = runs.get("evaluate"), runs.get("check_data")
    return Found(
        run=run,
        experiment=client.get_experiment(run.info.experiment_id).name,
        config=config,
        runs=runs,
        steps=states_of(reader, run, runs, config),
        evaluation=_evaluation(reader, evaluate),
        verdict=read_as(Verdict, reader.json(evaluate, verdict_name(evaluate)), "the verdict", reader.lost),
        checks=reader.rows(check_data, CHECKS),
        ks=reader.rows(check_data, KS),
        importance=reader.rows(runs.get("random_forest"), f"{MODEL_IMPORTANCE}.csv"),
        pictures=_pictures(reader, runs),
        versions=_versions(reader, runs.get("random_forest")),
        registered=_registered(client, runs.get("register")),
        sweep=_sweep(reader, run),
        base=_base(client, reader, base_run_id, evaluate),
        lost=reader.lost,
        made=time.time_ns() // 1_000_000,
    )


def pipeline_run(client: MlflowClient, run_id: str) -> Run:
    """Return the run of a pipeline by its id; a sweep's id means the best job.

    Raises:
        BadParameter: there is no such run, or it is another one's: the message names the one that was meant.
    """
    where = shown(mlflow.get_tracking_uri())
    with tracking.missing_as(lambda _: BadParameter(f"no run '{run_id}' on {where}. The closing table names it.")):
        run = client.get_run(run_id)
    tags = run.data.tags
    if best := tags.get(BEST_JOB):
        return client.get_run(best)
    if STEP in tags and not _step_tags(run):
        above = tags.get(MLFLOW_PARENT_RUN_ID, "")
        hint = f"It was made by the pipeline run {above}." if above else "It was run alone."
        raise BadParameter(f"run {run_id} is one of the step {tags[STEP]}, and not a pipeline's. {hint}")
    if PIPELINE in tags and tags[PIPELINE] != run_id:
        raise BadParameter(f"run {run_id} only started a pipeline; its own run is {tags[PIPELINE]}.")
    if PIPELINE not in tags and not _step_tags(run):
        raise BadParameter(f"run {run_id} is not a pipeline's run.")
    return run


def _step_tags(run: Run) -> dict[str, str]:
    return {key: text for key, text in run.data.tags.items() if key.startswith(STEP_RUN)}


def verdict_name(evaluate: Run | None) -> str:
    """Return the artifact in which an evaluate run published its verdict."""
    return str(evaluate.data.params.get("verdict", "verdict.json")) if evaluate else ""


def _wanted(runs: dict[str, Run | None]) -> list[tuple[Run, str]]:
    """Every artifact that will be asked for."""
    names = {
        "evaluate": (EVALUATION, verdict_name(runs.get("evaluate")), *PLOTS),
        "check_data": (CHECKS, KS),
        "random_forest": (f"{MODEL_IMPORTANCE}.csv", f"{MODEL_IMPORTANCE}.png"),
    }
    return [(run, name) for step, run in runs.items() if run for name in names.get(step, ())]


def _config(reader: Reader, run: Run) -> dict[str, Any]:
    text = reader.unlisted(run, CONFIG_ARTIFACT)
    loaded = yaml.load(text, _YamlLoader) if text else None
    if isinstance(loaded, dict):
        return loaded
    reader.lost.append(f"{CONFIG_ARTIFACT} of the pipeline's run is not in the artifact store.")
    return {}


_YamlLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _evaluation(reader: Reader, evaluate: Run | None) -> Evaluation | None:
    """What was found on the test split; of an older run, what its metrics say."""
    found = read_as(Evaluation, reader.json(evaluate, EVALUATION), EVALUATION, reader.lost)
    if found or evaluate is None:
        return found
    logged = {
        name.removeprefix("test_"): value for name, value in evaluate.data.metrics.items() if name.startswith("test_")
    }
    metrics = {
        name: Estimate(value=value, low=logged.get(f"{name}.low"), high=logged.get(f"{name}.high"))
        for name, value in logged.items()
        if "." not in name
    }
    return Evaluation(metrics=metrics) if metrics else None


def _pictures(reader: Reader, runs: dict[str, Run | None]) -> dict[str, str]:
    """Each plot in base64; where there is no permutation importance, what the forest says of itself stands for it."""
    found = {name: reader.picture(runs.get("evaluate"), name) for name in PLOTS}
    if not found["importance.png"]:
        found["feature_importance.png"] = reader.picture(runs.get("random_forest"), f"{MODEL_IMPORTANCE}.png")
    return {name: picture for name, picture in found.items() if picture}


def _versions(reader: Reader, forest: Run | None) -> list[str]:
    model = forest.data.tags.get(MODEL_ID) if forest else None
    if not model:
        return []
    found = None
    with tracking.missing_as(None, yaml.YAMLError, KeyError, TypeError):
        files = reader.client.get_logged_model(model).artifact_location
        place = mlflow.artifacts.download_artifacts(f"{files}/conda.yaml", dst_path=str(reader.folder))
        found = yaml.load(Path(place).read_text(encoding="utf-8"), _YamlLoader)["dependencies"]
    if found is None:
        reader.lost.append(f"the files of model {model} are not in the artifact store any more.")
        return []
    plain = [str(one) for one in found if isinstance(one, str) and not one.startswith("pip")]
    return plain + [str(line) for one in found if isinstance(one, dict) for line in one.get("pip", [])]


def _registered(client: MlflowClient, register: Run | None) -> ModelVersion | None:
    tags = register.data.tags if register else {}
    if "model_version" not in tags:
        return None
    with tracking.missing_as():
        return client.get_model_version(tags["model_name"], tags["model_version"])
    return None


def _sweep(reader: Reader, run: Run) -> Run | None:
    above = run.data.tags.get(MLFLOW_PARENT_RUN_ID)
    return find_run(reader.client, above) if above and JOB in run.data.tags else None


def _base(client: MlflowClient, reader: Reader, run_id: str, ours: Run | None) -> Base | None:
    """What the run has found that this one is held against; without any metrics its column says "not computed"."""
    if not run_id:
        return None
    run = pipeline_run(client, run_id)
    evaluate = find_run(client, _step_tags(run).get(f"{STEP_RUN}evaluate", ""))
    found = _evaluation(reader, evaluate)
    if found is None:
        reader.lost.append(f"the base run {run.info.run_id} has no metrics of the test split to be held against.")
    digests = [_test_digest(one) for one in (ours, evaluate)]
    same = digests[0] == digests[1] if all(digests) else None
    return Base(run.info.run_id, found or Evaluation(), same)


def _test_digest(evaluate: Run | None) -> str:
    """The digest of the rows that a model was tested on, or ""."""
    inputs = evaluate.inputs.dataset_inputs if evaluate and evaluate.inputs else []
    return next((one.dataset.digest for one in inputs if _context(one) == "testing"), "")


def _context(one: Any) -> str:
    return next((tag.value for tag in one.tags if tag.key == MLFLOW_DATASET_CONTEXT), "")

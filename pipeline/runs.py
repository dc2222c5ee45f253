"""The pipeline's own run: which run it is, in which experiment, and how it ends."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import mlflow
import yaml
from mlflow import MlflowClient
from mlflow.entities import RunStatus
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME
from rich.console import Console

from pipeline.config import Config
from pipeline.steps import DATA_CONFIG, MODEL_CONFIG
from stepkit import tracking
from stepkit.lineage import ERROR, PIPELINE

EXPERIMENT_KIND = "mlflow.experimentKind"
"""The tag by which MLflow's pages decide whether they show an experiment as model training or as GenAI."""

_RANDOM_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")
"""What MLflow calls a run that nobody named."""


@dataclass(frozen=True)
class Launched:
    """What `mlflow run` prepared before it started main.py: a run, its experiment and store (all empty without it)."""

    run_id: str
    experiment_id: str
    tracking_uri: str

    @staticmethod
    def from_environment() -> Launched:
        """Take over from the environment, so that what is started from here is not taken for that run."""
        return Launched(
            os.environ.pop("MLFLOW_RUN_ID", ""),
            os.environ.get("MLFLOW_EXPERIMENT_ID", ""),
            os.environ.get("MLFLOW_TRACKING_URI", ""),
        )


def connect(config: Config, launched: Launched, console: Console) -> str:
    """Choose the tracking server; say so when the configuration overrules the environment."""
    configured = config.main.mlflow_tracking_url
    if configured and launched.tracking_uri and configured != launched.tracking_uri:
        console.print(
            f"tracking to {configured} (main.mlflow_tracking_url wins over MLFLOW_TRACKING_URI)",
            highlight=False,
        )
    uri = tracking.connect(configured)
    os.environ["MLFLOW_TRACKING_URI"] = uri
    return uri


def env_manager_of(launched: Launched, uri: str) -> str:
    """Return the environment manager that `mlflow run` was given, to be passed on to the steps."""
    if not launched.run_id:
        return "local"
    tags = MlflowClient(tracking_uri=launched.tracking_uri or uri).get_run(launched.run_id).data.tags
    return str(tags.get("mlflow.project.env", "local"))


@contextmanager
def pipeline_run(config: Config, launched: Launched, uri: str, job: str) -> Iterator[mlflow.ActiveRun]:
    """Open the pipeline's run and log its configuration; end it FINISHED, FAILED or KILLED.

    It is the run that `mlflow run` made, if that stands in the same store and experiment and this is no job of
    a sweep; else a new one, and the other gets a tag that names it.
    """
    experiment_id = _experiment(config.main.experiment_name, launched)
    if launched.run_id and not job and _same_place(launched, uri, experiment_id):
        active = mlflow.start_run(run_id=launched.run_id)
    else:
        parent = {MLFLOW_PARENT_RUN_ID: launched.run_id} if job and _same_place(launched, uri, experiment_id) else {}
        active = mlflow.start_run(experiment_id=experiment_id, run_name=f"pipeline {job}".strip(), tags=parent or None)
        _point_to(active.info.run_id, launched, uri)
    try:
        _introduce(active, job)
        _log_config(config, active.info.run_id)
        yield active
    except KeyboardInterrupt:
        mlflow.end_run(RunStatus.to_string(RunStatus.KILLED))
        raise
    except BaseException as error:
        tracking.lose_patience(error)
        with suppress(MlflowException, OSError):  # the first error is the one to hand on
            mlflow.set_tag(ERROR, str(error)[:5000])
        mlflow.end_run(RunStatus.to_string(RunStatus.FAILED))
        raise
    mlflow.end_run()


def _introduce(active: mlflow.ActiveRun, job: str) -> None:
    """Give the run a name that tells what it is, and the experiment the view for model training."""
    if _RANDOM_NAME.fullmatch(active.info.run_name or ""):
        mlflow.set_tag(MLFLOW_RUN_NAME, f"pipeline {job}".strip())
    client = MlflowClient()
    experiment = client.get_experiment(active.info.experiment_id)
    if EXPERIMENT_KIND not in experiment.tags:
        client.set_experiment_tag(experiment.experiment_id, EXPERIMENT_KIND, "custom_model_development")


def _experiment(name: str | None, launched: Launched) -> str:
    if name:
        return str(mlflow.set_experiment(name).experiment_id)
    if launched.experiment_id:
        return launched.experiment_id
    return str(mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default")).experiment_id)


def _same_place(launched: Launched, uri: str, experiment_id: str) -> bool:
    return bool(launched.run_id) and launched.tracking_uri == uri and launched.experiment_id == experiment_id


def _point_to(run_id: str, launched: Launched, uri: str) -> None:
    if launched.run_id:
        client = MlflowClient(tracking_uri=launched.tracking_uri or uri)
        client.set_tag(launched.run_id, PIPELINE, run_id)


def _log_config(config: Config, run_id: str) -> None:
    """Log the resolved configuration, whole and in the two parts that steps read."""
    whole = config.model_dump(by_alias=True, exclude_none=False)
    parts = {
        "config/config.yaml": whole,
        DATA_CONFIG: whole["data"],
        MODEL_CONFIG: whole["random_forest_pipeline"],
    }
    for name, part in parts.items():
        mlflow.log_text(yaml.safe_dump(part, sort_keys=False, allow_unicode=True), name)
    settings = config.random_forest_pipeline.random_forest.model_dump()
    mlflow.log_params({"data": config.data.name, "random_seed": config.main.random_seed})
    mlflow.log_params({f"random_forest.{key}": value for key, value in settings.items()})
    mlflow.set_tag(PIPELINE, run_id)

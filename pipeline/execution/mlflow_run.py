"""Runs of a pipeline and of a sweep: which run and experiment the command uses, and how the run ends."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache

import mlflow
import yaml
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Run, RunTag, SourceType
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import (
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_PROJECT_ENTRY_POINT,
    MLFLOW_PROJECT_ENV,
    MLFLOW_RUN_NAME,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
)
from rich.console import Console

from pipeline.config import Config, Main
from pipeline.execution.progress import print_line
from pipeline.reuse.fingerprint import flatten
from pipeline.tags import CHANGED_FILES, CONFIG_ARTIFACT, DATA_CONFIG, EVALUATE_CONFIG, MODEL_CONFIG
from stepkit import paths
from stepkit.errors import BadParameter
from stepkit.processes import make_process_tags
from stepkit.secret_urls import format_error, hide_secrets
from stepkit.settings.model import ModelSettings
from stepkit.store import tracking
from stepkit.store.dead_runs import end_dead_runs, note_process
from stepkit.store.lineage import BECAUSE, ERROR, PIPELINE

EXPERIMENT_KIND = "mlflow.experimentKind"
"""Tag that makes MLflow's pages show an experiment as model training or as GenAI."""

MAX_FILES = 20
GIT_TIMEOUT_SECONDS = 5.0

_RANDOM_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")
"""Name that MLflow gives to a run without a name."""


@dataclass(frozen=True)
class ProjectRun:
    """Run, experiment and store that `mlflow run` prepared before it started main.py; all empty without it."""

    run_id: str = ""
    experiment_id: str = ""
    tracking_uri: str = ""


@cache
def take_project_run() -> ProjectRun:
    """Return the run from the environment, and remove its id there so that child processes do not use it."""
    return ProjectRun(
        os.environ.pop("MLFLOW_RUN_ID", ""),
        os.environ.get("MLFLOW_EXPERIMENT_ID", ""),
        paths.resolve_store_url(os.environ.get("MLFLOW_TRACKING_URI", "")),
    )


def open_run(main: Main, name: str, console: Console) -> tuple[str, str]:
    """Connect to the tracking store, end dead runs, and open the run of the whole command.

    Use the run of `mlflow run` if it is in the same store and experiment. Else create a run, and name it in a tag of
    the run of `mlflow run`.

    Returns:
        The URI of the tracking store and the run id.
    """
    project_run, configured = take_project_run(), main.mlflow_tracking_url
    if configured and project_run.tracking_uri and paths.resolve_store_url(configured) != project_run.tracking_uri:
        subject = f"tracking to {hide_secrets(configured)}"
        print_line(console, f"{subject} (main.mlflow_tracking_url overrides MLFLOW_TRACKING_URI)")
    uri = os.environ["MLFLOW_TRACKING_URI"] = tracking.connect(configured, project_run.run_id)
    client = MlflowClient()
    for line in end_dead_runs(client):
        print_line(console, line)
    experiment_id = _select_experiment(main.experiment_name)
    if project_run.run_id and project_run.tracking_uri == uri and project_run.experiment_id == experiment_id:
        run = client.get_run(project_run.run_id)
    else:
        run = _create_run(client, experiment_id, name, MlflowClient(project_run.tracking_uri or uri))
    run_id = str(run.info.run_id)
    if _RANDOM_NAME.fullmatch(run.info.run_name or ""):
        client.set_tag(run_id, MLFLOW_RUN_NAME, name)
    note_process(run_id)
    if EXPERIMENT_KIND not in client.get_experiment(experiment_id).tags:
        kind = (experiment_id, EXPERIMENT_KIND, "custom_model_development")
        tracking.retry_races(lambda: client.set_experiment_tag(*kind))
    return uri, run_id


def _create_run(client: MlflowClient, experiment_id: str, name: str, project_client: MlflowClient) -> Run:
    """Create a run with the tags that `mlflow run` sets; `project_client` has the run of `mlflow run`, if any."""
    project_run_id = take_project_run().run_id
    env_manager = fetch_env_manager(project_client, project_run_id) if project_run_id else "local"
    # The user, the source file and the commit, as mlflow.start_run would set them.
    project = {MLFLOW_PROJECT_ENV: env_manager, MLFLOW_PROJECT_ENTRY_POINT: "main"}
    source = {MLFLOW_SOURCE_TYPE: SourceType.to_string(SourceType.PROJECT), MLFLOW_SOURCE_NAME: str(paths.ROOT)}
    run = client.create_run(experiment_id, run_name=name, tags=resolve_tags({**project, **source}))
    if project_run_id:
        project_client.set_tag(project_run_id, PIPELINE, run.info.run_id)
    return run


def fetch_env_manager(client: MlflowClient, run_id: str) -> str:
    """Return the environment manager that `mlflow run` was called with; the steps use the same one."""
    return str(client.get_run(run_id).data.tags.get(MLFLOW_PROJECT_ENV, "local"))


def create_nested_run(parent_id: str, name: str, tags: dict[str, str]) -> str:
    """Create a run below another one, in the same experiment; return its id."""
    client = MlflowClient()
    parent = client.get_run(parent_id)
    tags = resolve_tags({MLFLOW_PARENT_RUN_ID: parent_id, **make_process_tags(), **tags})
    return str(client.create_run(parent.info.experiment_id, run_name=name, tags=tags).info.run_id)


@contextmanager
def activate_run(run_id: str) -> Iterator[mlflow.ActiveRun]:
    """Make a run the active one, and end it as FINISHED, FAILED or KILLED."""
    note_process(run_id)  # The best job of a sweep continues in another process than it started in.
    active = mlflow.start_run(run_id=run_id)
    try:
        yield active
    except KeyboardInterrupt:
        tracking.end_active_run("KILLED")
        raise
    except BaseException as error:
        tracking.stop_retrying(error)
        with suppress(MlflowException, OSError):  # The first error is the one to report.
            mlflow.set_tag(ERROR, format_error(error)[:5000])
        tracking.end_active_run("FAILED")
        raise
    mlflow.end_run()


def _select_experiment(name: str | None) -> str:
    if not name and take_project_run().experiment_id:
        return take_project_run().experiment_id
    name = name or os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default")
    experiment = mlflow.get_experiment_by_name(name)
    if experiment and experiment.lifecycle_stage == LifecycleStage.DELETED:
        raise BadParameter(
            f"experiment '{name}': deleted. Restore it: mlflow experiments restore --experiment-id "
            f"{experiment.experiment_id}; or use another one: main.experiment_name=..."
        )
    return str(mlflow.set_experiment(name).experiment_id)


@cache
def list_changed_files() -> str | None:
    """Return the files that differ from the commit or are not in it; "" if none, None outside of a clone."""
    command = ["git", "-C", str(paths.ROOT), "status", "--porcelain", "-z", "--no-renames"]
    try:
        output = subprocess.run(command, capture_output=True, check=True, text=True, timeout=GIT_TIMEOUT_SECONDS).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    names = sorted(entry[3:] for entry in output.split("\0") if entry)
    return ", ".join([*names[:MAX_FILES], *([f"and {len(names) - MAX_FILES} more"] if names[MAX_FILES:] else [])])


def log_config(config: Config, run_id: str, fitted: ModelSettings) -> None:
    """Log the resolved configuration: all of it, and the parts that steps read.

    `fitted` are the settings that the model step reads. In a job of a sweep, their `refit` differs from `config`.
    """
    values = config.model_dump(by_alias=True, exclude_none=False)
    parts = {
        CONFIG_ARTIFACT: values,
        DATA_CONFIG: values["data"],
        MODEL_CONFIG.format(model=config.model): fitted.model_dump(),
        EVALUATE_CONFIG: values["evaluate"],
    }
    for name, part in parts.items():
        mlflow.log_text(yaml.safe_dump(part, sort_keys=False, allow_unicode=True), name)
    split = {name: values["data"][name] for name in ("test_size", "val_size", "split", "stratify")}
    names = {"data": config.data.name, "model": config.model, "random_seed": config.main.random_seed}
    model = config.model_settings.model_dump(exclude={"features"})
    mlflow.log_params({**names, **flatten(split), **flatten(model)})
    changed_files = list_changed_files()
    because = config.main.because.model_dump(exclude_none=True)
    tags = {PIPELINE: run_id, **{BECAUSE + name: text[:5000] for name, text in because.items()}}
    if changed_files is not None:
        tags[CHANGED_FILES] = changed_files
    MlflowClient().log_batch(run_id, tags=[RunTag(name, text) for name, text in tags.items()])

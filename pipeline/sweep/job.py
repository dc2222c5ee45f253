"""One job of a sweep: a pipeline run nested under the sweep's run, in this process or on another machine.

Its process may share nothing with the process that started the sweep. It therefore reads everything except its
configuration from the tracking server, and logs its results and errors there.
"""

from __future__ import annotations

import math
import re
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities import Param, Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENV
from omegaconf import DictConfig

from pipeline.config import Config, ConfigError, parse_config
from pipeline.execution.mlflow_run import create_nested_run
from pipeline.execution.progress import REUSED, Display, make_console, print_line
from pipeline.execution.runner import StepFailed, run_pipeline
from pipeline.launch.forkserver import warm_up
from pipeline.reuse.claims import Claims
from pipeline.steps import select_steps
from pipeline.tags import JOB, OVERRIDES
from stepkit.processes import interrupt_on_signals, interrupted
from stepkit.secret_urls import format_error, hide_secrets_in_text
from stepkit.step.exit import to_step_error
from stepkit.store import tracking
from stepkit.store.lineage import ERROR, PIPELINE

SWEEP_RUN_VARIABLE, LEDGER_VARIABLE = "PIPELINE_SWEEP_RUN_ID", "PIPELINE_LEDGER_RUN_ID"
"""Variables (hydra.job.env_set) that name the runs of its sweep to a job on any machine."""

SECONDS = "seconds"
"""Metric of a job's run: its duration, without the steps that run later for the best job."""

MAX_VALUE_LENGTH = 9

BEST_JOB_STEPS = ("evaluate", "register")
"""Steps that run only for the best job, once it is chosen, unless every job scores the test split."""


@dataclass(frozen=True)
class Job:
    """Job of a sweep.

    Attributes:
        number: number of the job in the sweep.
        overrides: overrides of this job, without those that all jobs of the sweep share.
        sweep: run of the sweep.
        ledger: id of the run with the claims on shared steps.
    """

    number: int
    overrides: list[str]
    sweep: Run
    ledger: str

    @staticmethod
    def from_hydra(hydra: DictConfig) -> Job:
        """Return the job of a composed configuration, from its `hydra` part."""
        variables = hydra.job.env_set
        sweep = MlflowClient().get_run(variables[SWEEP_RUN_VARIABLE])
        # Hydra's sweeper rewrites overrides with other quotes and backslashes.
        common = set(map(strip_quotes, sweep.data.tags[OVERRIDES].splitlines()))
        overrides = [text for text in map(strip_quotes, hydra.overrides.task) if text not in common]
        return Job(int(hydra.job.num), overrides, sweep, variables[LEDGER_VARIABLE])

    @property
    def name(self) -> str:
        """Name of the job's run, such as "job 1: max_depth=7"."""
        return f"job {self.number}: {' '.join(map(shorten_override, self.overrides))}".strip(": ")


def strip_quotes(override: str) -> str:
    """Return an override without quotes and backslashes."""
    return re.sub(r"[\\'\"]", "", str(override))


def shorten_override(override: str) -> str:
    """Return an override with the last part of its key: random_forest.max_depth=7 -> max_depth=7."""
    key, _, value = override.lstrip("+~").partition("=")
    return f"{key.rsplit('.', 1)[-1]}={shorten_value(value)}"


def shorten_value(value: str) -> str:
    """Return a swept value; long numbers, which a search draws, with four digits."""
    try:
        return value if len(value) < MAX_VALUE_LENGTH else f"{float(value):.4g}"
    except ValueError:
        return value


def is_validated_first(config: Config) -> bool:
    """Return whether the jobs only validate their models: the best one is then refitted, evaluated and registered."""
    return config.sweep.test == "best" and config.model in _list_step_names(config)


def select_job_steps(config: Config) -> list[str]:
    """Return the names of the steps that every job executes."""
    names = _list_step_names(config)
    return [name for name in names if name not in BEST_JOB_STEPS] if is_validated_first(config) else names


def select_best_job_steps(config: Config) -> list[str]:
    """Return the names of the steps that only the best job executes, once it is chosen."""
    if not is_validated_first(config):
        return []
    refitted = (config.model,) if config.model_settings.refit else ()
    return [name for name in _list_step_names(config) if name in (*refitted, *BEST_JOB_STEPS)]


def _list_step_names(config: Config) -> list[str]:
    return [step.name for step in select_steps(config.main.execute_steps, config.model)]


def run_in_new_process(composed: DictConfig, hydra: DictConfig) -> float:
    """Prepare a new process, which may be on another machine, and run a job in it; see `run_job`."""
    interrupt_on_signals()
    if composed.main.launcher == "warm":
        warm_up()
    tracking.connect()
    return run_job(composed, hydra)


def run_job(composed: DictConfig, hydra: DictConfig) -> float:
    """Run a job; return its objective, or NaN if it failed. Its run records the error, and the sweep continues."""
    job, console, client = Job.from_hydra(hydra), make_console(), MlflowClient()
    began = time.monotonic()
    print_line(console, f"{job.name}  running")
    tags = {JOB: str(job.number), OVERRIDES: "\n".join(job.overrides)}
    run_id = create_nested_run(job.sweep.info.run_id, job.name, tags)
    try:
        summary, objective = _execute_job(composed, job, run_id)
    except Exception as error:  # An error of any kind ends only this job; the others continue.
        problem = error if isinstance(error, ConfigError | StepFailed) else to_step_error(error)
        if not problem and not interrupted.is_set():  # Tracebacks of interrupted jobs do not help.
            traceback.print_exc()
        with suppress(MlflowException, OSError):
            client.set_tag(run_id, ERROR, format_error(problem or error)[:5000])
            client.set_tag(run_id, PIPELINE, run_id)
            client.set_terminated(run_id, "FAILED")
        text = format_error(problem) if problem else f"{type(error).__name__}: {error}"
        summary, objective = f"failed: {text}", math.nan
    seconds = time.monotonic() - began
    with suppress(MlflowException, OSError):
        client.log_metric(run_id, SECONDS, seconds)
    print_line(console, hide_secrets_in_text(f"{job.name}  {summary}  in {seconds:.1f} s"))
    return objective


def _execute_job(composed: DictConfig, job: Job, run_id: str) -> tuple[str, float]:
    config = parse_config(composed)
    client = MlflowClient()
    names = select_job_steps(config)
    overrides = [override.lstrip("+~").partition("=") for override in job.overrides]
    # MLflow rejects @ in a parameter name. Without the prefix, "data" would collide with a parameter of log_config.
    swept = [Param(f"swept.{key.replace('@', '.')}", value) for key, _, value in overrides]
    client.log_batch(run_id, params=swept)
    env_manager = job.sweep.data.tags.get(MLFLOW_PROJECT_ENV, "local")
    display = Display(None, names)
    claims = Claims(client, job.ledger, run_id, job.sweep.info.start_time)
    run_pipeline(config, run_id, env_manager, names, display, claims, refit=not is_validated_first(config))
    objective = read_objective(client.get_run(run_id), config.sweep.metric, trains=config.model in names)
    reused = sum(line.state == REUSED for line in display.lines.values())
    metric = "" if math.isnan(objective) else f"{config.sweep.metric} {objective:.4f}, "
    return f"{metric}{len(names) - reused} ran, {reused} reused", objective


def read_objective(run: Run, metric: str, trains: bool) -> float:
    """Return the metric by which jobs are compared; NaN if the job trains no model.

    Raises:
        ConfigError: a model was trained, but this metric was not logged.
    """
    if metric in run.data.metrics:
        return float(run.data.metrics[metric])
    if not trains:
        return math.nan
    logged = ", ".join(sorted(name for name in run.data.metrics if name.startswith("val_")))
    raise ConfigError(f"sweep.metric: metric '{metric}' was not logged. Logged metrics: {logged}")

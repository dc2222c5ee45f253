"""One job of a sweep: a pipeline nested under the sweep's run, in this process or on another machine.

A job reads all but its configuration from the tracking server, and logs its results and its failure there: its process
may share nothing with the one that started the sweep.
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
"""By these a job learns of its sweep, wherever its process runs (hydra.job.env_set)."""

SECONDS = "seconds"
"""Metric of a job's run: how long the job took, without what is done for the best one later."""

MAX_VALUE_LENGTH = 9

BEST_JOB_STEPS = ("evaluate", "register")
"""Steps that touch the test split; they wait until the best job is chosen."""


@dataclass(frozen=True)
class Job:
    """A job's place in its sweep: the run of the sweep, and the overrides that this job has and others may not."""

    number: int
    overrides: list[str]
    sweep: Run
    ledger: str

    @staticmethod
    def from_hydra(hydra: DictConfig) -> Job:
        """Return the job of a composed configuration; `hydra` is its part of that name."""
        variables = hydra.job.env_set
        sweep = MlflowClient().get_run(variables[SWEEP_RUN_VARIABLE])
        # Hydra's sweeper writes what it was given again, with other quotes and backslashes
        common = set(map(strip_quotes, sweep.data.tags[OVERRIDES].splitlines()))
        own = [text for text in map(strip_quotes, hydra.overrides.task) if text not in common]
        return Job(int(hydra.job.num), own, sweep, variables[LEDGER_VARIABLE])

    @property
    def name(self) -> str:
        return f"job {self.number}: {' '.join(map(shorten_override, self.overrides))}".strip(": ")


def strip_quotes(override: str) -> str:
    return re.sub(r"[\\'\"]", "", str(override))


def shorten_override(override: str) -> str:
    """Return an override by the last part of its key: random_forest.max_depth=7 -> max_depth=7."""
    key, _, value = override.lstrip("+~").partition("=")
    return f"{key.rsplit('.', 1)[-1]}={shorten_value(value)}"


def shorten_value(value: str) -> str:
    """Return a swept value; a number that a search has drawn, with four digits."""
    try:
        return value if len(value) < MAX_VALUE_LENGTH else f"{float(value):.4g}"
    except ValueError:
        return value


def select_job_steps(config: Config) -> list[str]:
    """Return the steps that each job executes, and not only the best one."""
    names = [step.name for step in select_steps(config.main.execute_steps)]
    if config.sweep.test == "all" or "random_forest" not in names:
        return names
    return [name for name in names if name not in BEST_JOB_STEPS]


def run_in_new_process(composed: DictConfig, hydra: DictConfig) -> float:
    """Make a fresh process, perhaps one on another machine, ready for jobs, and run one; see `run_job`."""
    interrupt_on_signals()
    if composed.main.launcher == "warm":
        warm_up()
    tracking.connect()
    return run_job(composed, hydra)


def run_job(composed: DictConfig, hydra: DictConfig) -> float:
    """Run a job; return its objective, or NaN if it failed: the failure is noted on its run, and the sweep goes on."""
    job, console, client = Job.from_hydra(hydra), make_console(), MlflowClient()
    began = time.monotonic()
    print_line(console, f"{job.name}  running")
    tags = {JOB: str(job.number), OVERRIDES: "\n".join(job.overrides)}
    run_id = create_nested_run(job.sweep.info.run_id, job.name, tags)
    try:
        summary, objective = _execute_job(composed, job, run_id)
    except Exception as error:  # whatever it is, it is this job's: the others continue
        problem = error if isinstance(error, ConfigError | StepFailed) else to_step_error(error)
        if not problem and not interrupted.is_set():  # errors of a job that is being ended are not worth a traceback
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
    given = [override.lstrip("+~").partition("=") for override in job.overrides]
    # MLflow takes no @ in a name, and "data" is logged with the whole configuration too
    swept = [Param(f"swept.{key.replace('@', '.')}", value) for key, _, value in given]
    client.log_batch(run_id, params=swept)
    env_manager = job.sweep.data.tags.get(MLFLOW_PROJECT_ENV, "local")
    show = Display(None, names)
    shared = Claims(client, job.ledger, run_id, job.sweep.info.start_time)
    run_pipeline(config, run_id, env_manager, names, show, shared)
    objective = read_objective(client.get_run(run_id), config.sweep.metric, names)
    reused = sum(line.state == REUSED for line in show.lines.values())
    metric = "" if math.isnan(objective) else f"{config.sweep.metric} {objective:.4f}, "
    return f"{metric}{len(names) - reused} ran, {reused} reused", objective


def read_objective(run: Run, metric: str, names: list[str]) -> float:
    """Return the value by which jobs are compared; NaN if no model was trained.

    Raises:
        ConfigError: a model was trained, but no such metric was logged.
    """
    if metric in run.data.metrics:
        return float(run.data.metrics[metric])
    if "random_forest" not in names:
        return math.nan
    known = ", ".join(sorted(name for name in run.data.metrics if name.startswith("val_")))
    raise ConfigError(f"sweep.metric: no metric '{metric}' was logged. Known: {known}")

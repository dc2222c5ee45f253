"""A sweep: one run over all its jobs, the best of them carried to the end, and what a person wants to see of it."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import mlflow
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from mlflow import MlflowClient
from mlflow.entities import Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from omegaconf import DictConfig, OmegaConf
from pydantic import ValidationError
from rich.console import Console

from pipeline.config import Config, ConfigError, Main
from pipeline.config import Sweep as Settings
from pipeline.execution.mlflow_run import env_manager_of, open_nested, open_run
from pipeline.execution.progress import Silent, new_console
from pipeline.execution.runner import StepFailed, run_pipeline
from pipeline.execution.summary import steps_of
from pipeline.report import at_end
from pipeline.steps import chosen_steps
from pipeline.sweep.job import AFTER_THE_CHOICE, LEDGER_VARIABLE, SWEEP_RUN_VARIABLE
from pipeline.sweep.launch_ray import lost_jobs
from pipeline.sweep.results import closing, failed, publish
from pipeline.tags import CONFIG_ARTIFACT, JOB, OVERRIDES
from stepkit.errors import StepError
from stepkit.secret_urls import error_text, holds_secret, holds_secret_in
from stepkit.store import tracking
from stepkit.store.lineage import ERROR, PIPELINE, mark_current
from stepkit.table.columns import first_problem

COMMON = ("main.experiment_name", "main.mlflow_tracking_url", "sweep.")
"""Keys, or how they begin, that belong to the sweep and not to its jobs."""

LOST = "its process ended without a word"
AGAIN = "Run the same sweep again: what is finished is reused."


class CannotStart(BaseException):
    """A sweep's run cannot be opened. Not an Exception: those of a callback Hydra turns into warnings."""


@dataclass
class Sweep:
    """The sweep that this process has started."""

    settings: Settings
    uri: str
    run_id: str
    ledger: str
    began: float


started: list[Sweep] = []
"""The sweep of this process, if it started one."""


class SweepCallback(Callback):  # type: ignore[misc]  # Hydra ships no types
    """Opens the sweep's run before Hydra composes the jobs, and tells the jobs of it, wherever they run."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        try:
            sweep = open_sweep(config)
        except Exception as error:
            raise CannotStart from error
        started.append(sweep)
        variables = {SWEEP_RUN_VARIABLE: sweep.run_id, LEDGER_VARIABLE: sweep.ledger}
        if not holds_secret(sweep.uri):  # else it comes from the environment, and Hydra writes what is told into a file
            variables["MLFLOW_TRACKING_URI"] = sweep.uri
        # each job is composed anew from these overrides, on whichever machine
        config.hydra.overrides.hydra += [f"+hydra.job.env_set.{name}='{value}'" for name, value in variables.items()]


def open_sweep(config: DictConfig) -> Sweep:
    """Open the run of a sweep, with the tracking server and experiment of the configuration without its swept keys.

    Raises:
        ConfigError: these keys have no usable value.
        TrackingUnreachable: the tracking server does not answer.
    """
    try:
        main = Main.model_validate(OmegaConf.to_container(config.main, resolve=True))
        settings = Settings.model_validate(OmegaConf.to_container(config.sweep, resolve=True))
    except ValidationError as error:
        raise ConfigError(f"configuration key {error.title.lower()}.{first_problem(error)}") from error
    chosen_steps(main.execute_steps)  # names that are no steps are told before anything runs
    chosen_steps(main.rerun, "main.rerun")
    expect_common(list(map(str, config.hydra.overrides.task)))
    console = Console()
    uri, run_id = open_run(main, "sweep", console)
    swept = "\n".join(map(str, config.hydra.overrides.task))
    tags = [RunTag(PIPELINE, run_id), RunTag(OVERRIDES, swept)]
    MlflowClient().log_batch(run_id, tags=tags)
    return Sweep(settings, uri, run_id, open_nested(run_id, "shared steps", {}), time.monotonic())


def expect_common(overrides: list[str]) -> None:
    """Raise ConfigError if a key is swept that all jobs of a sweep have in common."""
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.get_key_element().lstrip("+~")
        if holds_secret_in(override.input_line or ""):
            raise ConfigError(
                f"{key} holds a password, a key or a signature, and MLflow keeps it. Name a variable: env:NAME."
            )
        if override.is_sweep_override() and key.startswith(COMMON):
            raise ConfigError(f"{key} cannot be swept: all jobs of a sweep have the same one. Start a sweep for each.")


def jobs_of(client: MlflowClient, sweep: Sweep) -> list[Run]:
    """The runs of the sweep's jobs, in their order."""
    experiment = client.get_run(sweep.run_id).info.experiment_id
    chosen = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{sweep.run_id}' and tags.{JOB} != ''"
    found = client.search_runs([experiment], chosen, max_results=5000)
    return sorted(found, key=lambda run: int(run.data.tags[JOB]))


class JobFailed(Exception):
    """A job of a sweep ended badly; the text says which and why."""


def close_started(problem: BaseException | None) -> list[JobFailed]:
    """Close the sweep of this process, if it started one; see `close`."""
    return [failure for sweep in started for failure in close(sweep, problem)]


def close(sweep: Sweep, problem: BaseException | None) -> list[JobFailed]:
    """Carry the best job to the end, sum the sweep up and end its run.

    Args:
        problem: what ended the sweep before its time, if anything did.

    Returns:
        One error per failed job.
    """
    status = "FAILED"
    try:
        failures = _summed_up(sweep, problem)
        status = _status(failures, problem)
    except BaseException as error:  # Ctrl-C while the best job is evaluated, a server that is gone
        tracking.lose_patience(error)
        status = _status([], error)
        raise
    finally:
        with suppress(MlflowException, OSError):
            for run_id in (sweep.ledger, sweep.run_id):
                MlflowClient().set_terminated(run_id, status)
    return failures


def _summed_up(sweep: Sweep, problem: BaseException | None) -> list[JobFailed]:
    client, console = MlflowClient(), new_console()
    lost = end_lost_jobs(client, sweep)
    jobs = without_lost_tries(jobs_of(client, sweep))
    failures = [JobFailed(f"{run.info.run_name}: {run.data.tags.get(ERROR, LOST)}") for run in jobs if failed(run)]
    failures += [JobFailed(f"job {number}: {error}") for number, error in lost.items()]
    best, report = best_of(jobs, sweep.settings), ""
    if best and not problem:
        make_current(client, best)
        failures += finish_best(client, sweep, best, console)
        report = at_end.published(client, best.info.run_id)
        jobs = without_lost_tries(jobs_of(client, sweep))
    if jobs:
        logged = publish(client, sweep.run_id, sweep.settings, jobs, best)
        title = f"sweep {sweep.run_id}, {time.monotonic() - sweep.began:.1f} s"
        console.print(closing(title, sweep.settings, jobs, best, sweep.uri, report, logged))
    return failures


def without_lost_tries(jobs: list[Run]) -> list[Run]:
    """Leave out the run of a job that was killed where a cluster began the job again, and that went well."""
    finished = {run.data.tags[JOB] for run in jobs if not failed(run)}
    return [run for run in jobs if not failed(run) or run.data.tags[JOB] not in finished]


def _status(failures: list[JobFailed], problem: BaseException | None) -> str:
    if isinstance(problem, KeyboardInterrupt):
        return "KILLED"
    return "FAILED" if failures or problem else "FINISHED"


def end_lost_jobs(client: MlflowClient, sweep: Sweep) -> dict[int, str]:
    """End the runs of jobs whose processes are gone (killed, or on a machine that is).

    Returns:
        What is known of jobs that were lost before they had a run, by their numbers.
    """
    lost = {one.number: one.error for one in lost_jobs()}
    for run in jobs_of(client, sweep):
        why = lost.pop(int(run.data.tags[JOB]), "")
        if run.info.status == "RUNNING":
            client.set_tag(run.info.run_id, ERROR, f"{why or LOST}. {AGAIN}")
            for one in (run, *running_below(client, run)):
                client.set_terminated(one.info.run_id, "KILLED")
    return lost


def running_below(client: MlflowClient, run: Run) -> list[Run]:
    """Steps of a job that was killed: they were killed with it, and could not say so."""
    below = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run.info.run_id}' and attributes.status = 'RUNNING'"
    return list(client.search_runs([run.info.experiment_id], below))


def best_of(jobs: list[Run], settings: Settings) -> Run | None:
    """Return the finished job with the best validation metric; the first of several equal ones."""
    rated = [run for run in jobs if run.info.status == "FINISHED" and settings.metric in run.data.metrics]
    sign = 1.0 if settings.direction == "maximize" else -1.0
    return max(rated, key=lambda run: sign * run.data.metrics[settings.metric], default=None)


def finish_best(client: MlflowClient, sweep: Sweep, best: Run, console: Console) -> list[JobFailed]:
    """Let the best job's pipeline go on with the steps that waited for the choice; return what went wrong."""
    text = mlflow.artifacts.load_text(f"runs:/{best.info.run_id}/{CONFIG_ARTIFACT}")
    config = Config(**yaml.safe_load(text))
    names = [step.name for step in chosen_steps(config.main.execute_steps) if step.name in AFTER_THE_CHOICE]
    if not names or sweep.settings.test == "all":
        return []
    env_manager = env_manager_of(client, sweep.run_id)
    try:
        show = Silent(console, names)
        run_pipeline(config, best.info.run_id, env_manager, names, show, done=steps_of(best))
    except (StepFailed, StepError) as error:
        return [JobFailed(f"{best.info.run_name}: {error_text(error)}")]
    return []


def make_current(client: MlflowClient, best: Run) -> None:
    """Let a single step that is run after the sweep read what belongs to the best job, and not to the last one."""
    for run_id in steps_of(best).values():
        mark_current(client, run_id)

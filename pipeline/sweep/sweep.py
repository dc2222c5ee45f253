"""Sweep: one run with a nested run per job. The best job is evaluated and registered; a table shows all jobs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mlflow
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from mlflow import MlflowClient
from mlflow.entities import Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from omegaconf import DictConfig, OmegaConf
from pydantic import ValidationError
from rich.console import Console

from pipeline.config import Config, ConfigError, Main, parse_model
from pipeline.config import Sweep as Settings
from pipeline.execution.mlflow_run import create_nested_run, fetch_env_manager, open_run
from pipeline.execution.progress import Display, make_console, print_line
from pipeline.execution.runner import StepFailed, run_pipeline
from pipeline.execution.summary import read_step_runs
from pipeline.report import at_end
from pipeline.steps import select_steps
from pipeline.sweep.job import LEDGER_VARIABLE, SWEEP_RUN_VARIABLE, select_best_job_steps, strip_quotes
from pipeline.sweep.plugin_bases import LaunchingSweeper
from pipeline.sweep.plugin_settings import SamplerSettings, SearchSettings, parse_settings
from pipeline.sweep.results import build_sweep_table, has_failed, publish_results
from pipeline.sweep.unused_overrides import drop_unused, list_distinct
from pipeline.tags import CONFIG_ARTIFACT, JOB, OVERRIDES
from stepkit.errors import StepError
from stepkit.secret_urls import format_error, has_secret, has_secret_in_text
from stepkit.store import tracking
from stepkit.store.lineage import ERROR, PIPELINE, mark_current
from stepkit.table.columns import format_first_problem

if TYPE_CHECKING:
    from pipeline.sweep.optuna_search import Search

COMMON_KEYS = ("main.experiment_name", "main.mlflow_tracking_url", "sweep.")
"""Keys, or prefixes of keys, that must be equal in all jobs of a sweep."""

LOST_REASON = "its process ended without an error message"
RERUN_HINT = "Run the same sweep again: finished steps are reused."


class JobFailed(Exception):
    """A job of a sweep failed; the text names the job and the error."""


@dataclass(frozen=True)
class Sweep:
    """Sweep that this process has started.

    Attributes:
        settings: metric by which the jobs are compared, its direction, and the jobs that score the test split.
        uri: URI of the tracking store.
        run_id: id of the sweep's run.
        ledger: id of the run with the claims on shared steps.
        began: start of the sweep, on the monotonic clock in seconds.
    """

    settings: Settings
    uri: str
    run_id: str
    ledger: str
    began: float


class NestedRunSweeper(LaunchingSweeper):
    """Sweeper whose jobs are nested under one run of the sweep."""

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Run the sweep; Hydra calls this method."""
        return run_sweep(self, arguments)

    def run_jobs(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Run the jobs of the sweep; return the results of each batch."""
        raise NotImplementedError

    def list_progress(self) -> list[str]:
        """Return the progress of a search, in one line; empty for other sweeps."""
        return []


class GridSweeper(NestedRunSweeper):
    """Sweeper that runs a job for every combination of the swept values."""

    def run_jobs(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Run all combinations with Hydra's own sweeper."""
        # Hydra loads the modules of its plugins again when it starts. An import before that would give another class.
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

        config = self.config

        class DistinctJobs(BasicSweeper):
            """Hydra's sweeper without jobs that differ only in settings of another kind of model."""

            @staticmethod
            def split_arguments(overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
                (jobs,) = BasicSweeper.split_arguments(overrides, None)
                jobs = list_distinct(drop_unused(config, jobs))
                return list(BasicSweeper.split_overrides_to_chunks(jobs, max_batch_size))

        grid = DistinctJobs(**self.settings)
        grid.config, grid.hydra_context, grid.launcher = self.config, self.hydra_context, self.launcher
        return list(grid.sweep(arguments))


class OptunaSweeper(NestedRunSweeper):
    """Sweeper that searches the swept overrides with Optuna."""

    search: Search | None = None

    def run_jobs(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Run the trials that the study still needs."""
        from pipeline.sweep.optuna_search import Search  # imports Optuna, which only a search needs

        sampler = parse_settings(SamplerSettings, self.settings["sampler"], "hydra.sweeper.sampler")
        settings = parse_settings(SearchSettings, {**self.settings, "sampler": sampler}, "hydra.sweeper")
        self.search = Search.begin(self, settings, arguments)
        return self.search.run()

    def list_progress(self) -> list[str]:
        """Return the progress of the study in one line."""
        return [self.search.progress] if self.search else []


def run_sweep(sweeper: NestedRunSweeper, arguments: list[str]) -> list[Sequence[JobReturn]]:
    """Open the sweep's run, run its jobs, evaluate and register the best one, and end the run.

    Raises:
        ConfigError: the configuration of the sweep is invalid.
        TrackingUnreachable: the tracking server does not respond.
        BaseExceptionGroup: the error that ended the sweep early, if any, and a JobFailed for each failed job.
    """
    sweep = open_sweep(sweeper.config)
    announce_sweep(sweep, sweeper.config)
    errors, results = list[BaseException](), list[Sequence[JobReturn]]()
    with collect_errors(errors):
        results = sweeper.run_jobs(arguments)
    with collect_errors(errors):
        lost_jobs = getattr(sweeper.launcher, "lost", {})  # only RayLauncher has this attribute
        errors += summarize_sweep(sweep, lost_jobs, sweeper.list_progress(), ended_early=bool(errors))
    status = "FAILED" if errors else "FINISHED"
    if any(isinstance(error, KeyboardInterrupt) for error in errors):
        status = "KILLED"
    with suppress(MlflowException, OSError):
        for run_id in (sweep.ledger, sweep.run_id):
            MlflowClient().set_terminated(run_id, status)
    if errors:
        raise BaseExceptionGroup("the sweep failed", errors)
    return results


@contextmanager
def collect_errors(errors: list[BaseException]) -> Iterator[None]:
    """Append an error raised in this context to `errors`: Ctrl-C, a server that does not respond, an error of Hydra."""
    try:
        yield
    except BaseException as error:
        tracking.stop_retrying(error)
        errors.append(error)


def open_sweep(config: DictConfig) -> Sweep:
    """Open the run of a sweep in the tracking store and experiment of the configuration.

    Raises:
        ConfigError: `main` or `sweep` is invalid, or a key is swept that all jobs must share.
        TrackingUnreachable: the tracking server does not respond.
    """
    try:
        main = Main.model_validate(OmegaConf.to_container(config.main, resolve=True))
        settings = Settings.model_validate(OmegaConf.to_container(config.sweep, resolve=True))
    except ValidationError as error:
        raise ConfigError(f"{error.title.lower()}.{format_first_problem(error)}") from error
    overrides = list(map(str, config.hydra.overrides.task))
    for model in list_models(overrides, config.model):  # rejects an unknown name before any job runs
        select_steps(main.execute_steps, model)
        select_steps(main.rerun, model, "main.rerun")
    verify_not_swept(overrides)
    console = Console()
    uri, run_id = open_run(main, "sweep", console)
    tags = [RunTag(PIPELINE, run_id), RunTag(OVERRIDES, "\n".join(overrides))]
    MlflowClient().log_batch(run_id, tags=tags)
    return Sweep(settings, uri, run_id, create_nested_run(run_id, "shared steps", {}), time.monotonic())


def announce_sweep(sweep: Sweep, config: DictConfig) -> None:
    """Pass the run ids of the sweep to every job, by overrides of the variables that Hydra sets for a job."""
    variables = {SWEEP_RUN_VARIABLE: sweep.run_id, LEDGER_VARIABLE: sweep.ledger}
    if not has_secret(sweep.uri):  # Hydra writes its overrides to a file. A URI with a password must stay out of it.
        variables["MLFLOW_TRACKING_URI"] = sweep.uri
    config.hydra.overrides.hydra += [f"+hydra.job.env_set.{name}='{value}'" for name, value in variables.items()]


def list_models(overrides: list[str], configured: str) -> list[str]:
    """Return the kinds of model that the jobs train, without repetition; `configured` is that of config.yaml.

    Raises:
        ConfigError: a kind of model is unknown.
    """
    models = [configured]
    for override in OverridesParser.create().parse_overrides(overrides):
        if override.get_key_element() == "model" and override.is_discrete_sweep():
            models = list(map(strip_quotes, override.sweep_string_iterator()))
    try:
        return list(dict.fromkeys(map(parse_model, models)))
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error


def verify_not_swept(overrides: list[str]) -> None:
    """Raise ConfigError if a key is swept that all jobs must share, or if an override holds a secret."""
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.get_key_element().lstrip("+~")
        if has_secret_in_text(override.input_line or ""):
            raise ConfigError(
                f"{key}: holds a password, a key or a signature, which MLflow would store. Set a variable and name it: "
                "env:NAME."
            )
        if override.is_sweep_override() and key.startswith(COMMON_KEYS):
            raise ConfigError(f"{key}: cannot be swept, all jobs of a sweep share one value. Start a sweep per value.")


def summarize_sweep(sweep: Sweep, lost_jobs: dict[int, str], progress: list[str], ended_early: bool) -> list[JobFailed]:
    """Finish the best job unless the sweep ended early; print and log the table of all jobs.

    Args:
        sweep: the sweep.
        lost_jobs: the reason why each job without a result has none, by number.
        progress: progress of a search, in one line.
        ended_early: True if an error or Ctrl-C ended the sweep.

    Returns:
        One error per failed job.
    """
    client, console = MlflowClient(), make_console()
    without_run = end_lost_jobs(client, sweep, lost_jobs)
    jobs = fetch_jobs(client, sweep)
    failures = [
        JobFailed(f"{run.info.run_name}: {run.data.tags.get(ERROR, LOST_REASON)}") for run in jobs if has_failed(run)
    ]
    failures += [JobFailed(f"job {number}: {error}") for number, error in without_run.items()]
    best, report = find_best(jobs, sweep.settings), ""
    if best and not ended_early:
        for run_id in read_step_runs(best).values():  # A step that is run alone later reads the runs of the best job.
            mark_current(client, run_id)
        failures += finish_best(client, sweep, best)
        report = at_end.publish_report(client, best.info.run_id)
        jobs, best = fetch_jobs(client, sweep), client.get_run(best.info.run_id)
    if jobs:
        artifacts = publish_results(client, sweep.run_id, sweep.settings, jobs, best)
        title = f"sweep {sweep.run_id}, {time.monotonic() - sweep.began:.1f} s"
        console.print(build_sweep_table(title, sweep.settings, jobs, best, sweep.uri, report, artifacts, progress))
    return failures


def fetch_all_jobs(client: MlflowClient, sweep: Sweep) -> list[Run]:
    """Return all runs of the sweep's jobs by number. A job that a cluster restarted has several runs."""
    experiment = client.get_run(sweep.run_id).info.experiment_id
    query = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{sweep.run_id}' and tags.{JOB} != ''"
    runs = client.search_runs([experiment], query, max_results=5000)
    return sorted(runs, key=lambda run: int(run.data.tags[JOB]))


def fetch_jobs(client: MlflowClient, sweep: Sweep) -> list[Run]:
    """Return the runs of the sweep's jobs by number, without lost tries."""
    return drop_lost_tries(fetch_all_jobs(client, sweep))


def drop_lost_tries(jobs: list[Run]) -> list[Run]:
    """Drop the run of a killed job if a cluster restarted the job and that run finished."""
    finished = {run.data.tags[JOB] for run in jobs if not has_failed(run)}
    return [run for run in jobs if not has_failed(run) or run.data.tags[JOB] not in finished]


def end_lost_jobs(client: MlflowClient, sweep: Sweep, lost_jobs: dict[int, str]) -> dict[int, str]:
    """End the runs of jobs whose processes died, and of their steps; return the lost jobs that never had a run."""
    without_run = dict(lost_jobs)
    for run in fetch_all_jobs(client, sweep):
        reason = without_run.pop(int(run.data.tags[JOB]), LOST_REASON)
        if run.info.status == "RUNNING":
            client.set_tag(run.info.run_id, ERROR, f"{reason}. {RERUN_HINT}")
            query = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run.info.run_id}' and attributes.status = 'RUNNING'"
            for running in (run, *client.search_runs([run.info.experiment_id], query)):
                client.set_terminated(running.info.run_id, "KILLED")
    return without_run


def find_best(jobs: list[Run], settings: Settings) -> Run | None:
    """Return the first finished job with the best validation metric."""
    with_metric = [run for run in jobs if run.info.status == "FINISHED" and settings.metric in run.data.metrics]
    sign = 1.0 if settings.direction == "maximize" else -1.0
    return max(with_metric, key=lambda run: sign * run.data.metrics[settings.metric], default=None)


def finish_best(client: MlflowClient, sweep: Sweep, best: Run) -> list[JobFailed]:
    """Refit the model of the best job and run the steps that read the test split; return the errors."""
    text = mlflow.artifacts.load_text(f"runs:/{best.info.run_id}/{CONFIG_ARTIFACT}")
    config = Config(**yaml.safe_load(text))
    names = select_best_job_steps(config)
    if not names:
        return []
    print_line(make_console(), f"{best.info.run_name}  best, running {', '.join(names)}")
    env_manager = fetch_env_manager(client, sweep.run_id)
    done = {name: run_id for name, run_id in read_step_runs(best).items() if name not in names}
    try:
        run_pipeline(config, best.info.run_id, env_manager, names, Display(None, names), done=done)
    except (StepFailed, StepError) as error:
        return [JobFailed(f"{best.info.run_name}: {format_error(error)}")]
    return []

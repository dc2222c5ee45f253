"""One pipeline, as `mlflow run .` starts it: shown step by step, and summed up at its end."""

from __future__ import annotations

import time
from collections.abc import Sequence

from hydra.core.hydra_config import HydraConfig
from mlflow import MlflowClient
from omegaconf import DictConfig
from rich.console import Console

from pipeline.config import Config, checked
from pipeline.execution.mlflow_run import connect, env_manager_of, launched, open_run
from pipeline.execution.progress import Display, new_console
from pipeline.execution.runner import StepFailed, run_pipeline
from pipeline.execution.summary import closing_table, expect_accepted, failed_table
from pipeline.report import at_end
from pipeline.steps import chosen_steps
from pipeline.tags import OVERRIDES
from stepkit.errors import StepError

failures: list[Exception] = []
"""What went wrong. Kept instead of raised: Hydra would print lines of its own about it."""


def run_composed(composed: DictConfig) -> None:
    """Check the configuration and run it; any error goes to `failures`, which the command line translates."""
    try:
        run_single(checked(composed), new_console(), command_line())
    except Exception as error:
        failures.append(error)


def command_line() -> list[str] | None:
    """What the command line says beside config.yaml; None where Hydra did not read it."""
    return [str(one) for one in HydraConfig.get().overrides.task] if HydraConfig.initialized() else None


def run_single(config: Config, console: Console, given: Sequence[str] | None = None) -> None:
    """Execute the configured steps under one pipeline run.

    Args:
        given: what was given on the command line beside config.yaml, noted on the run; None if that is not known.

    Raises:
        ConfigError: a name that is no step.
        StepFailed: a step ended badly.
        StepError: the tracking server does not answer, an upstream run is missing, or the gate rejected the model
            and that is to be a failure.
    """
    steps = chosen_steps(config.main.execute_steps)
    chosen_steps(config.main.rerun, "main.rerun")  # a name that is no step is told before anything runs
    uri = connect(config.main.mlflow_tracking_url, launched(), console)
    run_id = open_run(config.main, launched(), uri, "pipeline", console)
    client, began = MlflowClient(), time.monotonic()
    if given is not None:
        client.set_tag(run_id, OVERRIDES, "\n".join(given))
    at_end.prepare()
    show = Display(console, [step.name for step in steps])
    try:
        done = run_pipeline(config, run_id, env_manager_of(launched(), uri), config.main.execute_steps, show)
    except (StepFailed, StepError):
        show.skip_waiting()
        report = at_end.published(client, run_id)
        console.print(failed_table(show, time.monotonic() - began, report))
        raise
    report = at_end.published(client, run_id)
    console.print(closing_table(client, run_id, done, show, uri, time.monotonic() - began, report))
    expect_accepted(client, config, done)

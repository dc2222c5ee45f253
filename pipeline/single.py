"""One pipeline, as `mlflow run .` starts it: shown step by step, and summed up at its end."""

from __future__ import annotations

import sys
import time

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from omegaconf import DictConfig
from rich.console import Console

from pipeline.closing import closing_table, expect_accepted, steps_rows, two_columns
from pipeline.config import Config, ConfigError, checked
from pipeline.display import Display
from pipeline.runner import StepFailed, run_pipeline
from pipeline.runs import connect, env_manager_of, launched, open_run
from pipeline.steps import chosen_steps
from stepkit import tracking
from stepkit.errors import StepError

failures: list[Exception] = []
"""What went wrong. Kept instead of raised: Hydra would print lines of its own about it."""


def run_composed(composed: DictConfig) -> None:
    """Check the configuration and run it; what a person can mend goes to `failures`."""
    # a pipe has no width; lines there are for programs and logs, which wrap as they like
    console = Console(width=None if sys.stdout.isatty() else 200)
    try:
        run_single(checked(composed), console)
    except (ConfigError, StepFailed, StepError) as error:
        failures.append(error)
    except (MlflowException, OSError) as error:
        if not tracking.is_unreachable(error):
            raise
        failures.append(tracking.gone(error))


def run_single(config: Config, console: Console) -> None:
    """Execute the configured steps under one pipeline run.

    Raises:
        ConfigError: a name that is no step.
        StepFailed: a step ended badly.
        StepError: the tracking server does not answer, an upstream run is missing, or the gate rejected the model
            and that is to be a failure.
    """
    steps = chosen_steps(config.main.execute_steps)
    chosen_steps(config.main.rerun, "main.rerun")  # a name that is no step is told before anything runs
    uri = connect(config.main.mlflow_tracking_url, launched(), console)
    run_id = open_run(config.main, launched(), uri, "pipeline")
    began = time.monotonic()
    show = Display(console, [step.name for step in steps])
    try:
        done = run_pipeline(config, run_id, env_manager_of(launched(), uri), config.main.execute_steps, show)
    except StepFailed:
        closing = two_columns(f"\nfailed after {time.monotonic() - began:.1f} s", "bold red")
        for label, text in steps_rows(show):
            closing.add_row(label, text)
        console.print(closing)
        raise
    console.print(closing_table(MlflowClient(), run_id, done, show, uri, time.monotonic() - began))
    expect_accepted(MlflowClient(), config, done)

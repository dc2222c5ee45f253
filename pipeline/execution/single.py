"""Run of one pipeline, as `mlflow run .` starts it, with its closing table."""

from __future__ import annotations

import time
from collections.abc import Sequence

from mlflow import MlflowClient
from rich.console import Console

from pipeline.config import Config
from pipeline.execution.mlflow_run import fetch_env_manager, open_run
from pipeline.execution.progress import Display, print_line
from pipeline.execution.runner import StepFailed, run_pipeline
from pipeline.execution.summary import build_closing_table, build_failed_table
from pipeline.report import at_end
from pipeline.steps import select_steps
from pipeline.tags import OVERRIDES
from stepkit.errors import ModelRejected, StepError


def run_single(config: Config, console: Console, overrides: Sequence[str] = ()) -> None:
    """Execute the configured steps under one pipeline run, publish its report and print its closing table.

    Args:
        config: checked configuration.
        console: console for progress and the closing table.
        overrides: overrides on the command line; a tag of the run records them.

    Raises:
        ConfigError: a name is not a step.
        StepFailed: a step failed.
        StepError: the tracking server does not respond, an upstream run is missing, or the gate rejected the model
            and evaluate.on_reject is "fail".
    """
    steps = select_steps(config.main.execute_steps, config.model)
    select_steps(config.main.rerun, config.model, "main.rerun")  # rejects an unknown name before any step runs
    uri, run_id = open_run(config.main, "pipeline", console)
    warning = config.model_settings.explain_fixed_threshold()
    if warning and config.model in [step.name for step in steps]:
        print_line(console, f"{config.model}_pipeline.{warning}")
    client, began = MlflowClient(), time.monotonic()
    client.set_tag(run_id, OVERRIDES, "\n".join(overrides))
    display = Display(console, [step.name for step in steps])
    error: Exception | None = None
    try:
        run_pipeline(config, run_id, fetch_env_manager(client, run_id), config.main.execute_steps, display)
    except (StepFailed, StepError) as failure:
        error = failure
    report, seconds = at_end.publish_report(client, run_id), time.monotonic() - began
    if error is None or isinstance(error, ModelRejected):
        console.print(build_closing_table(client, run_id, display, uri, seconds, report))
    else:
        display.skip_waiting()
        console.print(build_failed_table(display, seconds, report))
    if error:
        raise error

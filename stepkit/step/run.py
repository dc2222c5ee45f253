"""Open a step's run and end it: FINISHED and current, FAILED with a message, or KILLED."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from stepkit.errors import StepError
from stepkit.processes import interrupt_on_signals
from stepkit.secret_urls import format_error, hide_secrets_in_text
from stepkit.step.artifacts import StepRun
from stepkit.step.exit import exit_on_error, exit_with_error, to_step_error
from stepkit.store import lineage, tracking
from stepkit.store.dead_runs import end_dead_runs, note_process

__all__ = ["StepRun", "step_run"]


@contextmanager
def step_run(args: argparse.Namespace) -> Iterator[StepRun]:
    """Open the run of a step; end it FINISHED and current, FAILED with a message, or KILLED.

    Raises SystemExit: status 1 after an error that the user can fix, 130 after Ctrl-C or SIGTERM.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout, force=True)
    interrupt_on_signals()
    try:
        with exit_on_error():
            tracking.connect()
            with tempfile.TemporaryDirectory(prefix="step-") as folder, _open_run(args, Path(folder)) as run:
                yield run
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def _open_run(args: argparse.Namespace, folder: Path) -> Iterator[StepRun]:
    launched = os.environ.get("MLFLOW_RUN_ID")
    client = MlflowClient()
    active = mlflow.start_run(run_id=launched or None, run_name=None if launched else args.step)
    run = StepRun(client, active.info.run_id, active.info.experiment_id, folder)
    try:
        client.set_tag(run.run_id, lineage.STEP, args.step)
        note_process(run.run_id)
        if MLFLOW_PARENT_RUN_ID not in active.data.tags:
            for line in end_dead_runs(client):  # a pipeline does this once, at its start
                logging.info(line)
        if not launched:
            mlflow.log_params({key: value for key, value in vars(args).items() if value != ""})
        yield run
    except KeyboardInterrupt:
        tracking.end_active_run("KILLED")
        raise
    except BaseException as error:
        tracking.stop_retrying(error)
        problem = to_step_error(error)
        _fail(run, problem, f"{type(error).__name__}: {error}. Unexpected: see the traceback in the log of this step.")
        if problem:
            if problem is not error and MLFLOW_PARENT_RUN_ID in active.data.tags:
                traceback.print_exc()  # the pipeline writes the traceback to the step's log and prints only the message
            exit_with_error(problem)
        raise
    mlflow.end_run()
    lineage.mark_current(client, run.run_id)


def _fail(run: StepRun, problem: StepError | None, unexpected: str) -> None:
    """Set the message as tag and description of the run, and end the run."""
    with suppress(MlflowException, OSError):
        run.client.set_tag(
            run.run_id, lineage.ERROR, (format_error(problem) if problem else hide_secrets_in_text(unexpected))[:5000]
        )
        if problem:
            note = f"**{type(problem).__name__}**: {hide_secrets_in_text(str(problem))}"
            run.client.set_tag(run.run_id, "mlflow.note.content", note)
    tracking.end_active_run("FAILED")

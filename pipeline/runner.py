"""Run the chosen steps in order, each with the exact runs that it reads, and show how they get on."""

from __future__ import annotations

import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from rich.console import Console

from pipeline import display as states
from pipeline.closing import closing_table, log_headline
from pipeline.config import Config
from pipeline.display import Display
from pipeline.launcher import StepProcess, launch
from pipeline.runs import Launched, connect, env_manager_of, pipeline_run
from pipeline.steps import BY_NAME, Step, chosen_steps
from stepkit.lineage import ERROR, SUMMARY, address_of, current_run
from stepkit.tracking import ROOT

POLL_SECONDS = 0.1
LOG_ARTIFACT = "step.log"
LAST_LINES = 15


class StepFailed(Exception):
    """A step ended badly; its message was shown already."""


@dataclass
class Pipeline:
    """One execution of the pipeline: what every step needs to know."""

    config: Config
    console: Console
    client: MlflowClient
    run: Run
    env_manager: str
    logs: Path
    done: dict[str, str] = field(default_factory=dict)

    def parameters(self, step: Step) -> dict[str, str]:
        own = step.parameters(self.config, address_of(self.run.info.run_id, "").rstrip("/"))
        exact = {flag: self.done[upstream] for flag, upstream in step.reads.items()}
        return {"step": step.run_name, **own, **exact}


def run_pipeline(config: Config, console: Console, launched: Launched, job: str = "") -> dict[str, str]:
    """Execute the configured steps under one pipeline run.

    Args:
        job: name of this job in a sweep; empty for a single run.

    Returns:
        The run id of each step.

    Raises:
        StepFailed: a step ended badly.
        StepError: the tracking server does not answer, or an upstream run is missing.
    """
    steps = chosen_steps(config.main.execute_steps)
    uri = connect(config, launched, console)
    env_manager = env_manager_of(launched, uri)
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="pipeline-") as logs,
        pipeline_run(config, launched, uri, job) as active,
    ):
        pipeline = Pipeline(config, console, MlflowClient(), active, env_manager, Path(logs))
        pin_upstream(pipeline, steps)
        show = Display(console, [step.name for step in steps])
        with show.shown():
            for step in steps:
                execute(pipeline, step, show)
        log_headline(pipeline.client, active.info.run_id, pipeline.done)
    console.print(closing_table(pipeline.client, active.info.run_id, pipeline.done, uri, time.monotonic() - began))
    return pipeline.done


def pin_upstream(pipeline: Pipeline, steps: list[Step]) -> None:
    """Fix, once and at the start, the current run of each step that is read but not executed here."""
    executed = {step.name for step in steps}
    for step in steps:
        for upstream in step.reads.values():
            if upstream not in executed and upstream not in pipeline.done:
                tag = BY_NAME[upstream].run_name
                run = current_run(pipeline.client, pipeline.run.info.experiment_id, tag)
                pipeline.done[upstream] = run.info.run_id


def execute(pipeline: Pipeline, step: Step, show: Display) -> None:
    """Run one step to its end.

    Raises:
        StepFailed: its process did not exit with 0.
        KeyboardInterrupt: passed on after the step was ended and its run marked.
    """
    log_file = pipeline.logs / f"{step.name}.log"
    log_file.touch()
    show.start(step.name)
    process = launch(
        ROOT / step.name,
        pipeline.parameters(step),
        pipeline.run.info.experiment_id,
        pipeline.env_manager,
        step.run_name,
        log_file,
    )
    try:
        watch(process, step, log_file, show)
    except KeyboardInterrupt:
        process.cancel()
        end_run(pipeline.client, process.run_id, "KILLED")
        show.end(step.name, states.FAILED, "interrupted")
        raise
    keep_log(pipeline.client, process.run_id, log_file)
    finish(pipeline, step, process, log_file, show)


def watch(process: StepProcess, step: Step, log_file: Path, show: Display) -> None:
    """Wait for the process, showing the last line that it wrote."""
    while True:
        try:
            process.process.wait(POLL_SECONDS)
            return
        except subprocess.TimeoutExpired:
            lines = log_file.read_text(errors="replace").splitlines()
            show.say(step.name, lines[-1] if lines else "")


def finish(pipeline: Pipeline, step: Step, process: StepProcess, log_file: Path, show: Display) -> None:
    succeeded = process.wait()
    end_run(pipeline.client, process.run_id, "FINISHED" if succeeded else "FAILED")
    tags = pipeline.client.get_run(process.run_id).data.tags
    if succeeded:
        pipeline.done[step.name] = process.run_id
        show.end(step.name, states.DONE, tags.get(SUMMARY, ""))
        return
    show.skip_waiting()
    show.end(step.name, states.FAILED, f"run {process.run_id}")
    raise StepFailed(tags.get(ERROR) or last_lines(log_file))


def end_run(client: MlflowClient, run_id: str, status: str) -> None:
    """Set the status of a run whose process could not do it (it crashed, or was killed)."""
    if client.get_run(run_id).info.status == "RUNNING":
        client.set_terminated(run_id, status)


def keep_log(client: MlflowClient, run_id: str, log_file: Path) -> None:
    client.log_text(run_id, log_file.read_text(errors="replace"), LOG_ARTIFACT)


def last_lines(log_file: Path) -> str:
    return "\n".join(log_file.read_text(errors="replace").splitlines()[-LAST_LINES:])

"""Run the chosen steps in order, each with the exact runs that it reads, and show how they get on."""

from __future__ import annotations

import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from rich.console import Console

from pipeline import display as states
from pipeline.closing import closing_table, log_headline
from pipeline.config import Config
from pipeline.display import Display
from pipeline.launcher import Launcher, StepProcess
from pipeline.runs import Launched, connect, env_manager_of, pipeline_run
from pipeline.steps import BY_NAME, Step, chosen_steps
from stepkit.lineage import ERROR, SUMMARY, address_of, current_run
from stepkit.tracking import ROOT

POLL_SECONDS = 0.05
LOG_ARTIFACT = "step.log"
LAST_LINES = 15


class StepFailed(Exception):
    """One or more steps ended badly; the text is what each of them said."""


@dataclass
class Running:
    """A step that was started."""

    step: Step
    process: StepProcess
    log_file: Path


@dataclass
class Pipeline:
    """One execution of the pipeline: what every step needs to know, and how far it is."""

    config: Config
    client: MlflowClient
    run: Run
    launcher: Launcher
    logs: Path
    show: Display
    done: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

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
        launcher = Launcher(active.info.experiment_id, env_manager, config.main.launcher == "warm")
        show = Display(console, [step.name for step in steps])
        pipeline = Pipeline(config, MlflowClient(), active, launcher, Path(logs), show)
        pin_upstream(pipeline, steps)
        with show.shown():
            execute(pipeline, steps)
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


def execute(pipeline: Pipeline, steps: list[Step]) -> None:
    """Run all steps, each as soon as those that it needs have succeeded; after a failure start no more.

    Raises:
        StepFailed: a step did not exit with 0; what ran beside it was let to its end.
        KeyboardInterrupt: passed on after every step was ended and its run marked.
    """
    waiting, running = list(steps), list[Running]()
    try:
        while running or (waiting and not pipeline.failures):
            if not pipeline.failures:
                ready = [step for step in waiting if is_ready(step, steps, pipeline.done)]
                waiting = [step for step in waiting if step not in ready]
                running += [start(pipeline, step) for step in ready]
            running = [one for one in running if not ended(pipeline, one)]
    except BaseException:
        # Ctrl-C, a server that is gone: no step may outlive the pipeline, whatever else cannot be done any more
        for run_id in pipeline.launcher.cancel_all():
            with suppress(MlflowException, OSError):
                end_run(pipeline.client, run_id, "KILLED")
        pipeline.show.interrupt()
        raise
    if pipeline.failures:
        pipeline.show.skip_waiting()
        raise StepFailed("\n".join(pipeline.failures))


def is_ready(step: Step, steps: list[Step], done: dict[str, str]) -> bool:
    """Whether every step that this one reads, or must wait for if it is executed at all, has succeeded."""
    executed = {one.name for one in steps}
    needed = {*step.reads.values(), *(name for name in step.after if name in executed)}
    return needed <= set(done)


def start(pipeline: Pipeline, step: Step) -> Running:
    log_file = pipeline.logs / f"{step.name}.log"
    log_file.touch()
    pipeline.show.start(step.name)
    process = pipeline.launcher.launch(ROOT / step.name, pipeline.parameters(step), step.run_name, log_file)
    return Running(step, process, log_file)


def ended(pipeline: Pipeline, one: Running) -> bool:
    """Look at a running step for a moment: show the last line that it wrote, or take down how it ended."""
    status = one.process.process.wait(POLL_SECONDS)
    if status is None:
        lines = one.log_file.read_text(errors="replace").splitlines()
        pipeline.show.say(one.step.name, lines[-1] if lines else "")
        return False
    finish(pipeline, one, succeeded=status == 0)
    return True


def finish(pipeline: Pipeline, one: Running, succeeded: bool) -> None:
    run_id = one.process.run_id
    end_run(pipeline.client, run_id, "FINISHED" if succeeded else "FAILED")
    pipeline.client.log_text(run_id, one.log_file.read_text(errors="replace"), LOG_ARTIFACT)
    tags = pipeline.client.get_run(run_id).data.tags
    if succeeded:
        pipeline.done[one.step.name] = run_id
        pipeline.show.end(one.step.name, states.DONE, tags.get(SUMMARY, ""))
    else:
        pipeline.show.end(one.step.name, states.FAILED, f"run {run_id}")
        pipeline.failures.append(tags.get(ERROR) or without_message(one))


def end_run(client: MlflowClient, run_id: str, status: str) -> None:
    """Set the status of a run whose process could not do it (it crashed, or was killed)."""
    if client.get_run(run_id).info.status == "RUNNING":
        client.set_terminated(run_id, status)


def without_message(one: Running) -> str:
    """What to show of a step that ended without a message of its own: it crashed, or was killed."""
    status = one.process.process.poll()
    where = f"{one.step.name} ended with status {status} and no message; its output is {LOG_ARTIFACT} of its run"
    return f"{where} {one.process.run_id}. The last lines:\n{last_lines(one.log_file)}"


def last_lines(log_file: Path) -> str:
    return "\n".join(log_file.read_text(errors="replace").splitlines()[-LAST_LINES:])

"""Run the chosen steps in order, each with the exact runs that it reads, and show their progress."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from subprocess import TimeoutExpired

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run, RunTag
from mlflow.exceptions import MlflowException

from pipeline.config import Config
from pipeline.execution import progress as states
from pipeline.execution.mlflow_run import activate_run, log_config
from pipeline.execution.progress import Display
from pipeline.execution.summary import log_headline, verify_accepted
from pipeline.external_state import StepContext
from pipeline.launch.backend import Launcher, StepProcess
from pipeline.reuse.claims import Claims, FailedElsewhere
from pipeline.reuse.decide import Decision, build_tags, decide_reuse
from pipeline.steps import BY_NAME, Step, select_steps
from pipeline.tags import FINGERPRINT_ARTIFACT, LAST_LINES, LOG_ARTIFACT, STEP_RUN, WHY
from stepkit.paths import ROOT
from stepkit.processes import interrupted, make_process_tags
from stepkit.secret_urls import hide_secrets_in_text
from stepkit.store.lineage import CURRENT, ERROR, SUMMARY, get_current_run, make_artifact_uri, mark_current

POLL_SECONDS = 0.05


class StepFailed(Exception):
    """One or more steps failed; the text is the message of each of them."""


class StepStart(Enum):
    """How a step was begun."""

    STARTED = auto()
    REUSED = auto()
    NOT_YET = auto()
    """Another job of the sweep computes it, or has failed at it."""


@dataclass
class Pipeline:
    """One execution of the pipeline: what every step needs to know, and how far it is.

    Attributes:
        run_id: its own run.
        shared: where this is a job of a sweep, who computes the steps that several jobs need.
        running: the steps that were started and have not ended.
    """

    context: StepContext
    run_id: str
    launcher: Launcher
    logs: Path
    show: Display
    shared: Claims | None
    running: dict[str, StepProcess] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def parameters(self, step: Step) -> dict[str, str]:
        own = step.parameters(self.context.config, make_artifact_uri(self.run_id, "").rstrip("/"))
        exact = {flag: self.context.done[upstream] for flag, upstream in step.reads.items()}
        return {"step": step.run_name, **own, **exact}


def run_pipeline(
    config: Config,
    run_id: str,
    env_manager: str,
    names: list[str],
    show: Display,
    shared: Claims | None = None,
    done: dict[str, str] | None = None,
) -> None:
    """Execute steps under the pipeline's own run, and judge what came of them.

    Args:
        run_id: that run; it is ended here.
        env_manager: as `mlflow run --env-manager` names them.
        names: the steps to execute.
        done: runs of steps that were executed before; else what is read but not executed is the current one.

    Raises:
        ConfigError: a name that is no step.
        StepFailed: a step ended badly.
        ModelRejected: all steps ended well, but the gate rejected the model and that is to be a failure.
        StepError: the tracking server does not answer, or an upstream run is missing.
    """
    steps = select_steps(names)
    with tempfile.TemporaryDirectory(prefix="pipeline-") as logs, activate_run(run_id) as active:
        log_config(config, run_id)
        experiment_id = active.info.experiment_id
        context = StepContext(
            MlflowClient(), config, experiment_id, dict(done or {}), since=shared.since if shared else 0
        )
        launcher = Launcher(experiment_id, env_manager, warm=config.main.launcher == "warm")
        pipeline = Pipeline(context, run_id, launcher, Path(logs), show, shared)
        pin_upstream(pipeline, steps)
        with show.show_live():
            execute_steps(pipeline, steps)
        log_headline(context.client, run_id, context.done)
    verify_accepted(context.client, config, context.done)


def pin_upstream(pipeline: Pipeline, steps: list[Step]) -> None:
    """Fix, once and at the start, the current run of each step that is read but not executed here."""
    context, executed = pipeline.context, {step.name for step in steps}
    for upstream in [name for step in steps for name in step.reads.values()]:
        if upstream not in executed and upstream not in context.done:
            run = get_current_run(context.client, context.experiment_id, BY_NAME[upstream].run_name)
            context.done[upstream] = run.info.run_id
            # the best job of a sweep, which continues later, reads the same
            context.client.set_tag(pipeline.run_id, STEP_RUN + upstream, run.info.run_id)


def execute_steps(pipeline: Pipeline, steps: list[Step]) -> None:
    """Run all steps, each as soon as those that it needs have succeeded; after a failure start no more.

    Raises:
        StepFailed: a step did not exit with 0, or failed in another job; the steps beside it have ended.
        KeyboardInterrupt: passed on after every step was ended and its run marked.
    """
    waiting = list(steps)
    try:
        while pipeline.running or (waiting and not pipeline.failures):
            begun = begin_ready_steps(pipeline, waiting, steps)
            for name in list(pipeline.running):
                poll_step(pipeline, name)
            if interrupted.is_set():  # this is a thread of a process that is to end
                raise KeyboardInterrupt
            if pipeline.shared:
                pipeline.shared.send_heartbeat()
            if not begun and not pipeline.running:
                time.sleep(POLL_SECONDS)
    except BaseException:
        # Ctrl-C or an unreachable server: no step may outlive the pipeline
        for run_id in pipeline.launcher.cancel_all():
            with suppress(MlflowException, OSError):
                end_run(pipeline.context.client, run_id, "KILLED")
        pipeline.show.interrupt()
        raise
    if pipeline.failures:
        pipeline.show.skip_waiting()
        raise StepFailed("\n".join(pipeline.failures))


def begin_ready_steps(pipeline: Pipeline, waiting: list[Step], steps: list[Step]) -> list[Step]:
    """Begin each waiting step whose inputs are there; remove from `waiting` and return those that were begun."""
    ready = [step for step in waiting if is_ready(step, steps, pipeline.context.done)]
    begun = [step for step in ready if begin_step(pipeline, step) is not StepStart.NOT_YET]
    for step in begun:
        waiting.remove(step)
    return begun


def is_ready(step: Step, steps: Sequence[Step], done: dict[str, str]) -> bool:
    """Return whether every step that this one reads, or must wait for if it is executed at all, has succeeded."""
    executed = {one.name for one in steps}
    needed = {*step.reads.values(), *(name for name in step.after if name in executed)}
    return needed <= set(done)


def begin_step(pipeline: Pipeline, step: Step) -> StepStart:
    """Start a step, or reuse the run that did its work already, or leave it to another job of the sweep."""
    shared, context = pipeline.shared, pipeline.context
    if pipeline.failures or (shared and shared.has_just_looked(step.name)):
        return StepStart.NOT_YET
    decision = decide_reuse(context, step)
    if decision.run:
        reuse_run(pipeline, step, decision.run)
        return StepStart.REUSED
    try:
        if shared and context.config.main.reuse and not shared.claim_step(step.name, step.run_name, decision.key):
            pipeline.show.wait(step.name)
            return StepStart.NOT_YET
    except FailedElsewhere as error:
        pipeline.show.end(step.name, states.FAILED, "in another job")
        pipeline.failures.append(str(error))
        return StepStart.NOT_YET
    start_step(pipeline, step, decision)
    return StepStart.STARTED


def reuse_run(pipeline: Pipeline, step: Step, run: Run) -> None:
    """Let a finished run stand for a new one: it belongs to this pipeline too, and is current again."""
    client = pipeline.context.client
    if run.data.tags.get(CURRENT) != "true":
        mark_current(client, run.info.run_id)
    client.set_tag(pipeline.run_id, STEP_RUN + step.name, run.info.run_id)
    pipeline.context.done[step.name] = run.info.run_id
    pipeline.show.end(step.name, states.REUSED, run.data.tags.get(SUMMARY, ""))


def start_step(pipeline: Pipeline, step: Step, decision: Decision) -> None:
    log_file = pipeline.logs / f"{step.name}.log"
    log_file.touch()
    pipeline.show.start(step.name, decision.why)
    # until its own process names itself on its run, the pipeline's stands for it
    tags = {**build_tags(decision, pipeline.context), **make_process_tags()}
    process = pipeline.launcher.launch(ROOT / step.name, pipeline.parameters(step), step.run_name, log_file, tags)
    pipeline.running[step.name] = process
    # while the process starts
    mlflow.log_dict(decision.parts, FINGERPRINT_ARTIFACT, run_id=process.run_id)
    why = [RunTag(WHY + step.name, decision.why[:5000])] if decision.why else []
    pipeline.context.client.log_batch(pipeline.run_id, tags=[RunTag(STEP_RUN + step.name, process.run_id), *why])


def poll_step(pipeline: Pipeline, name: str) -> None:
    """Look at a running step for a moment: show the last line that it wrote, or record how it ended."""
    step = pipeline.running[name]
    try:
        finish_step(pipeline, name, status=step.process.wait(POLL_SECONDS))
    except TimeoutExpired:
        lines = step.log_file.read_text(errors="replace").splitlines()
        pipeline.show.update(name, lines[-1] if lines else "")


def finish_step(pipeline: Pipeline, name: str, status: int) -> None:
    step, client = pipeline.running.pop(name), pipeline.context.client
    end_run(client, step.run_id, "FAILED" if status else "FINISHED")
    client.log_text(step.run_id, hide_secrets_in_text(step.log_file.read_text(errors="replace")), LOG_ARTIFACT)
    tags = client.get_run(step.run_id).data.tags
    if status == 0:
        pipeline.context.done[name] = step.run_id
        pipeline.show.end(name, states.DONE, tags.get(SUMMARY, ""))
        return
    pipeline.show.end(name, states.FAILED, f"run {step.run_id}")
    without_message = (
        f"{name} ended with status {status} and no message; its output is {LOG_ARTIFACT} of its run {step.run_id}. "
        f"The last lines:\n{read_last_lines(step.log_file)}"
    )
    pipeline.failures.append(tags.get(ERROR) or without_message)


def end_run(client: MlflowClient, run_id: str, status: str) -> None:
    """Set the status of a run whose process could not do it (it crashed, or was killed)."""
    if client.get_run(run_id).info.status == "RUNNING":
        client.set_terminated(run_id, status)


def read_last_lines(log_file: Path) -> str:
    lines = hide_secrets_in_text(log_file.read_text(errors="replace")).splitlines()[-LAST_LINES:]
    traced = any(line.startswith(("Traceback (", '  File "')) for line in lines)
    return "\n".join(lines[-1:] if traced else lines)

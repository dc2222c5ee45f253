"""Run the chosen steps in order, each with the exact runs that it reads, and show how they get on."""

from __future__ import annotations

import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import RunTag
from mlflow.exceptions import MlflowException

from pipeline.config import Config
from pipeline.execution import progress as states
from pipeline.execution.mlflow_run import active_run, log_config
from pipeline.execution.progress import Display
from pipeline.execution.summary import log_headline
from pipeline.external_state import Around
from pipeline.launch.backend import Launcher, StepProcess
from pipeline.reuse.claims import FailedElsewhere, Shared
from pipeline.reuse.decide import Decision, decide, tags_of
from pipeline.steps import BY_NAME, Step, chosen_steps
from pipeline.tags import FINGERPRINT_ARTIFACT, LAST_LINES, LOG_ARTIFACT, STEP_RUN, WHY
from stepkit.paths import ROOT
from stepkit.processes import interrupted, process_tags
from stepkit.secret_urls import shown_in
from stepkit.store.lineage import CURRENT, ERROR, SUMMARY, address_of, current_run, mark_current

POLL_SECONDS = 0.05


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
    """One execution of the pipeline: what every step needs to know, and how far it is.

    Attributes:
        run_id: its own run, in experiment `experiment_id`.
        shared: where this is a job of a sweep, who computes the steps that several jobs need.
        done: the run of each step that has succeeded, now or earlier.
    """

    config: Config
    client: MlflowClient
    run_id: str
    experiment_id: str
    launcher: Launcher
    logs: Path
    show: Display
    shared: Shared | None = None
    done: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def parameters(self, step: Step) -> dict[str, str]:
        own = step.parameters(self.config, address_of(self.run_id, "").rstrip("/"))
        exact = {flag: self.done[upstream] for flag, upstream in step.reads.items()}
        return {"step": step.run_name, **own, **exact}


def run_pipeline(
    config: Config,
    run_id: str,
    env_manager: str,
    names: list[str],
    show: Display,
    shared: Shared | None = None,
    done: dict[str, str] | None = None,
) -> dict[str, str]:
    """Execute steps under the pipeline's own run.

    Args:
        run_id: that run; it is ended here.
        env_manager: as `mlflow run --env-manager` names them.
        names: the steps to execute.
        done: runs of steps that were executed before; else what is read but not executed is the current one.

    Returns:
        The run id of each step, of those that were read but not executed too.

    Raises:
        ConfigError: a name that is no step.
        StepFailed: a step ended badly.
        StepError: the tracking server does not answer, or an upstream run is missing.
    """
    steps = chosen_steps(names)
    with tempfile.TemporaryDirectory(prefix="pipeline-") as logs, active_run(run_id) as active:
        log_config(config, run_id)
        experiment_id = active.info.experiment_id
        launcher = Launcher(experiment_id, env_manager, config.main.launcher == "warm")
        client = MlflowClient()
        pipeline = Pipeline(config, client, run_id, experiment_id, launcher, Path(logs), show, shared, dict(done or {}))
        pin_upstream(pipeline, steps)
        with show.shown():
            execute(pipeline, steps)
        log_headline(client, run_id, pipeline.done)
    return pipeline.done


def pin_upstream(pipeline: Pipeline, steps: list[Step]) -> None:
    """Fix, once and at the start, the current run of each step that is read but not executed here."""
    executed = {step.name for step in steps}
    for step in steps:
        for upstream in step.reads.values():
            if upstream not in executed and upstream not in pipeline.done:
                tag = BY_NAME[upstream].run_name
                run = current_run(pipeline.client, pipeline.experiment_id, tag)
                pipeline.done[upstream] = run.info.run_id
                # what goes on with this pipeline later (the best job of a sweep) reads the same
                pipeline.client.set_tag(pipeline.run_id, STEP_RUN + upstream, run.info.run_id)


def execute(pipeline: Pipeline, steps: list[Step]) -> None:
    """Run all steps, each as soon as those that it needs have succeeded; after a failure start no more.

    Raises:
        StepFailed: a step did not exit with 0; what ran beside it was let to its end.
        KeyboardInterrupt: passed on after every step was ended and its run marked.
    """
    waiting, running = list(steps), list[Running]()
    try:
        while running or (waiting and not pipeline.failures):
            before = len(waiting)
            for step in [one for one in waiting if is_ready(one, steps, pipeline.done)]:
                running += begin(pipeline, step)
                if step.name in pipeline.done or (running and running[-1].step is step):
                    waiting.remove(step)
            running = [one for one in running if not ended(pipeline, one)]
            look_around(pipeline, idle=not running and len(waiting) == before)
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


def look_around(pipeline: Pipeline, idle: bool) -> None:
    """Tell the other jobs of a sweep that this one lives; pause if it only waits for them.

    Raises:
        KeyboardInterrupt: this is a thread of a process that is to end.
    """
    if interrupted.is_set():
        raise KeyboardInterrupt
    if pipeline.shared:
        pipeline.shared.give_sign()
    if idle:
        time.sleep(POLL_SECONDS)


def begin(pipeline: Pipeline, step: Step) -> list[Running]:
    """Start a step, or take the run that did its work already, or leave it to another job of the sweep (both [])."""
    shared = pipeline.shared
    if pipeline.failures or (shared and shared.looked_just_now(step.name)):
        return []
    around = Around(pipeline.client, pipeline.config, pipeline.done, shared.since if shared else 0)
    decision = decide(around, step, pipeline.experiment_id)
    if decision.run:
        reuse(pipeline, step, decision)
        return []
    try:
        if shared and pipeline.config.main.reuse and not shared.is_mine(step.name, step.run_name, decision.key):
            pipeline.show.wait(step.name)
            return []
    except FailedElsewhere as error:
        pipeline.show.end(step.name, states.FAILED, "in another job")
        pipeline.failures.append(str(error))
        return []
    return [start(pipeline, step, decision, tags_of(decision, around))]


def reuse(pipeline: Pipeline, step: Step, decision: Decision) -> None:
    """Let a finished run stand for a new one: it belongs to this pipeline too, and is current again."""
    assert decision.run is not None
    run = decision.run
    if run.data.tags.get(CURRENT) != "true":
        mark_current(pipeline.client, run.info.run_id)
    pipeline.client.set_tag(pipeline.run_id, STEP_RUN + step.name, run.info.run_id)
    pipeline.done[step.name] = run.info.run_id
    pipeline.show.end(step.name, states.REUSED, run.data.tags.get(SUMMARY, ""))


def start(pipeline: Pipeline, step: Step, decision: Decision, tags: dict[str, str]) -> Running:
    log_file = pipeline.logs / f"{step.name}.log"
    log_file.touch()
    pipeline.show.start(step.name, decision.why)
    # until its own process names itself on its run, the pipeline's stands for it
    named = {**tags, **process_tags()}
    process = pipeline.launcher.launch(ROOT / step.name, pipeline.parameters(step), step.run_name, log_file, named)
    # while the process starts
    mlflow.log_dict(decision.parts, FINGERPRINT_ARTIFACT, run_id=process.run_id)
    why = [RunTag(WHY + step.name, decision.why[:5000])] if decision.why else []
    pipeline.client.log_batch(pipeline.run_id, tags=[RunTag(STEP_RUN + step.name, process.run_id), *why])
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
    pipeline.client.log_text(run_id, shown_in(one.log_file.read_text(errors="replace")), LOG_ARTIFACT)
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
    lines = shown_in(log_file.read_text(errors="replace")).splitlines()[-LAST_LINES:]
    traced = any(line.startswith(("Traceback (", '  File "')) for line in lines)
    return "\n".join(lines[-1:] if traced else lines)

"""Runner of a pipeline: starts each step as soon as its inputs are ready, and shows the progress."""

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
from pipeline.steps import Step, get_step, select_steps
from pipeline.tags import FINGERPRINT_ARTIFACT, LAST_LINES, LOG_ARTIFACT, STEP_RUN, WHY
from stepkit.paths import ROOT
from stepkit.processes import interrupted, make_process_tags
from stepkit.secret_urls import hide_secrets_in_text
from stepkit.store.lineage import CURRENT, ERROR, SUMMARY, get_current_run, make_artifact_uri, mark_current

POLL_SECONDS = 0.05


class StepFailed(Exception):
    """One or more steps failed; the text has the message of each of them."""


class StepStart(Enum):
    """Result of an attempt to start a step."""

    STARTED = auto()
    REUSED = auto()
    NOT_YET = auto()
    """Another job of the sweep runs the step, or the step failed in another job."""


@dataclass
class Pipeline:
    """One pipeline run: its settings and its progress.

    Attributes:
        run_id: id of the pipeline run.
        logs: folder of the log files of its steps.
        claims: in a job of a sweep, the record of the jobs that run shared steps; else None.
        running: processes of the steps that were started and have not ended, by step name.
        failures: error message of each failed step.
    """

    context: StepContext
    run_id: str
    launcher: Launcher
    logs: Path
    display: Display
    claims: Claims | None
    running: dict[str, StepProcess] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def build_parameters(self, step: Step) -> dict[str, str]:
        """Return all parameters of a step, with the exact run id of each step that it reads."""
        parameters = step.parameters(self.context.config, make_artifact_uri(self.run_id, "").rstrip("/"))
        input_run_ids = {flag: self.context.done[upstream] for flag, upstream in step.reads.items()}
        return {"step": step.run_name, **parameters, **input_run_ids}


def run_pipeline(
    config: Config,
    run_id: str,
    env_manager: str,
    names: list[str],
    display: Display,
    claims: Claims | None = None,
    done: dict[str, str] | None = None,
    refit: bool = True,
) -> None:
    """Execute steps under a pipeline run, and end that run.

    Args:
        config: checked configuration.
        run_id: id of the pipeline run.
        env_manager: environment manager, as named by `mlflow run --env-manager`.
        names: steps to execute.
        display: where the progress is shown.
        claims: in a job of a sweep, the record of the jobs that run shared steps.
        done: run id of each step that was executed before; of other steps that are read, the current run is used.
        refit: False to leave out the refit of the model, as jobs of a sweep do.

    Raises:
        ConfigError: a name is not a step.
        StepFailed: a step failed.
        ModelRejected: the gate rejected the model, and evaluate.on_reject is "fail".
        StepError: the tracking server does not respond, or an upstream run is missing.
    """
    steps, executed = select_steps(names, config.model), config if refit else config.without_refit()
    with tempfile.TemporaryDirectory(prefix="pipeline-") as logs, activate_run(run_id) as active:
        log_config(config, run_id, executed.model_settings)
        since, done = claims.since if claims else 0, dict(done or {})
        context = StepContext(MlflowClient(), executed, active.info.experiment_id, done, since)
        launcher = Launcher(context.experiment_id, env_manager, warm=config.main.launcher == "warm")
        pipeline = Pipeline(context, run_id, launcher, Path(logs), display, claims)
        pin_upstream(pipeline, steps)
        with display.show_live():
            execute_steps(pipeline, steps)
        log_headline(context.client, run_id, context.done, config.model)
    verify_accepted(context.client, config, context.done)


def pin_upstream(pipeline: Pipeline, steps: list[Step]) -> None:
    """Pin the current run of each step that is read but not executed here, once, before any step starts."""
    context, executed = pipeline.context, {step.name for step in steps}
    for upstream in [name for step in steps for name in step.reads.values()]:
        if upstream not in executed and upstream not in context.done:
            run_name = get_step(upstream, context.config.model).run_name
            run = get_current_run(context.client, context.experiment_id, run_name)
            context.done[upstream] = run.info.run_id
            # The best job of a sweep continues later and must read the same run.
            context.client.set_tag(pipeline.run_id, STEP_RUN + upstream, run.info.run_id)


def execute_steps(pipeline: Pipeline, steps: list[Step]) -> None:
    """Run all steps, each as soon as the steps that it needs have succeeded. After a failure, start no more steps.

    Raises:
        StepFailed: a step had a nonzero exit status, or failed in another job. The other running steps have ended.
        KeyboardInterrupt: raised again after all steps were stopped and their runs marked KILLED.
    """
    waiting = list(steps)
    try:
        while pipeline.running or (waiting and not pipeline.failures):
            started = begin_ready_steps(pipeline, waiting, steps)
            for name in list(pipeline.running):
                poll_step(pipeline, name)
            if interrupted.is_set():  # Python raises KeyboardInterrupt in the main thread only; this may be another.
                raise KeyboardInterrupt
            if pipeline.claims:
                pipeline.claims.send_heartbeat()
            if not started and not pipeline.running:
                time.sleep(POLL_SECONDS)
    except BaseException:
        # After Ctrl-C or an unreachable server, no step may outlive the pipeline.
        for run_id in pipeline.launcher.cancel_all():
            with suppress(MlflowException, OSError):
                end_run(pipeline.context.client, run_id, "KILLED")
        pipeline.display.interrupt()
        raise
    if pipeline.failures:
        pipeline.display.skip_waiting()
        raise StepFailed("\n".join(pipeline.failures))


def begin_ready_steps(pipeline: Pipeline, waiting: list[Step], steps: list[Step]) -> list[Step]:
    """Start or reuse each waiting step whose inputs are ready; remove these steps from `waiting` and return them."""
    ready = [step for step in waiting if is_ready(step, steps, pipeline.context.done)]
    started = [step for step in ready if begin_step(pipeline, step) is not StepStart.NOT_YET]
    for step in started:
        waiting.remove(step)
    return started


def is_ready(step: Step, steps: Sequence[Step], done: dict[str, str]) -> bool:
    """Return whether each step that this one reads has succeeded, and each executed step that must run before it."""
    executed = {executed_step.name for executed_step in steps}
    needed = {*step.reads.values(), *(name for name in step.after if name in executed)}
    return needed <= set(done)


def begin_step(pipeline: Pipeline, step: Step) -> StepStart:
    """Start a step, reuse an earlier run of it, or leave it to another job of the sweep."""
    claims, context = pipeline.claims, pipeline.context
    if pipeline.failures or (claims and claims.has_just_looked(step.name)):
        return StepStart.NOT_YET
    decision = decide_reuse(context, step)
    if decision.run:
        reuse_run(pipeline, step, decision.run)
        return StepStart.REUSED
    try:
        if claims and context.config.main.reuse and not claims.claim_step(step.name, step.run_name, decision.key):
            pipeline.display.wait(step.name)
            return StepStart.NOT_YET
    except FailedElsewhere as error:
        pipeline.display.end(step.name, states.FAILED, "in another job")
        pipeline.failures.append(str(error))
        return StepStart.NOT_YET
    start_step(pipeline, step, decision)
    return StepStart.STARTED


def reuse_run(pipeline: Pipeline, step: Step, run: Run) -> None:
    """Use a finished run instead of a new one: add it to this pipeline run and make it current again."""
    client = pipeline.context.client
    if run.data.tags.get(CURRENT) != "true":
        mark_current(client, run.info.run_id)
    client.set_tag(pipeline.run_id, STEP_RUN + step.name, run.info.run_id)
    pipeline.context.done[step.name] = run.info.run_id
    pipeline.display.end(step.name, states.REUSED, run.data.tags.get(SUMMARY, ""))


def start_step(pipeline: Pipeline, step: Step, decision: Decision) -> None:
    """Start the process of a step, and log its fingerprint and the reason why it runs."""
    log_file = pipeline.logs / f"{step.name}.log"
    log_file.touch()
    pipeline.display.start(step.name, decision.why)
    # The tags name this process until the step's process writes its own id to the run.
    tags = {**build_tags(decision, pipeline.context), **make_process_tags()}
    process = pipeline.launcher.launch(ROOT / step.name, pipeline.build_parameters(step), step.run_name, log_file, tags)
    pipeline.running[step.name] = process
    # The process loads its modules meanwhile.
    mlflow.log_dict(decision.parts, FINGERPRINT_ARTIFACT, run_id=process.run_id)
    why_tags = [RunTag(WHY + step.name, decision.why[:5000])] if decision.why else []
    pipeline.context.client.log_batch(pipeline.run_id, tags=[RunTag(STEP_RUN + step.name, process.run_id), *why_tags])


def poll_step(pipeline: Pipeline, name: str) -> None:
    """Wait briefly for a running step: record its end, or show the last line that it logged."""
    step = pipeline.running[name]
    try:
        finish_step(pipeline, name, status=step.process.wait(POLL_SECONDS))
    except TimeoutExpired:
        lines = step.log_file.read_text(errors="replace").splitlines()
        pipeline.display.update(name, lines[-1] if lines else "")


def finish_step(pipeline: Pipeline, name: str, status: int) -> None:
    """Record the end of a step: its status, log and summary, or its error message."""
    step, client = pipeline.running.pop(name), pipeline.context.client
    end_run(client, step.run_id, "FAILED" if status else "FINISHED")
    client.log_text(step.run_id, hide_secrets_in_text(step.log_file.read_text(errors="replace")), LOG_ARTIFACT)
    tags = client.get_run(step.run_id).data.tags
    if status == 0:
        pipeline.context.done[name] = step.run_id
        pipeline.display.end(name, states.DONE, tags.get(SUMMARY, ""))
        return
    pipeline.display.end(name, states.FAILED, f"run {step.run_id}")
    fallback = (
        f"{name}: ended without an error message (exit status {status}). Full output: {LOG_ARTIFACT} of run "
        f"{step.run_id}. Last lines:\n{read_last_lines(step.log_file)}"
    )
    pipeline.failures.append(tags.get(ERROR) or fallback)


def end_run(client: MlflowClient, run_id: str, status: str) -> None:
    """Set the status of a run whose process crashed or was killed before it could do so."""
    if client.get_run(run_id).info.status == "RUNNING":
        client.set_terminated(run_id, status)


def read_last_lines(log_file: Path) -> str:
    """Return the last lines of a log without secrets; only the last one if they contain a traceback."""
    lines = hide_secrets_in_text(log_file.read_text(errors="replace")).splitlines()[-LAST_LINES:]
    has_traceback = any(line.startswith(("Traceback (", '  File "')) for line in lines)
    return "\n".join(lines[-1:] if has_traceback else lines)

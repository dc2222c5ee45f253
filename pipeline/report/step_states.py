"""State of each step of a pipeline run, with its duration, the reason to run again, and its summary or error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from pipeline.config import MODEL_STEPS
from pipeline.report.artifact_reader import Reader
from pipeline.steps import Step, list_steps, select_steps
from pipeline.tags import LAST_LINES, LOG_ARTIFACT, WHY
from stepkit.store.lineage import ERROR, SUMMARY

RAN, REUSED, FAILED, STOPPED, RUNNING = "ran", "reused", "failed", "interrupted", "running"
READ, NOT_RUN, NOT_REQUESTED, DELETED = "read", "not run", "not requested", "deleted"
_BY_STATUS = {"FINISHED": RAN, "FAILED": FAILED, "KILLED": STOPPED}


@dataclass(frozen=True)
class StepRow:
    """Row of the table of steps.

    Attributes:
        state: one of the constants above.
        seconds: duration; for a reused step, its duration when it ran.
        reason: reason why it was not reused.
        summary: its summary.
        error: error message of a failed step, or the last lines of its log.
    """

    name: str
    state: str
    run_id: str = ""
    seconds: float | None = None
    reason: str = ""
    summary: str = ""
    error: str = ""


def list_step_rows(reader: Reader, run: Run, runs: dict[str, Run | None], config: dict[str, Any]) -> list[StepRow]:
    """Return a row for each step, in the order of the pipeline."""
    model, requested = find_model_step(config, runs), find_requested_steps(config, runs)
    return [_make_step_row(reader, run, step, runs, step.name in requested) for step in list_steps(model)]


def find_model_step(config: dict[str, Any], runs: dict[str, Run | None]) -> str:
    """Return the name of the model step. Before the key `model` existed, every pipeline trained a forest."""
    name = config.get("model") or next((name for name in runs if name in MODEL_STEPS), "random_forest")
    return str(name)


def find_requested_steps(config: dict[str, Any], runs: dict[str, Run | None]) -> set[str]:
    """Return the requested steps; if unknown, the steps that have a run."""
    names = (config.get("main") or {}).get("execute_steps")
    if not names:
        return {*runs}
    model = find_model_step(config, runs)
    return {step.name for step in select_steps([names] if isinstance(names, str) else names, model)}


def _make_step_row(reader: Reader, pipeline: Run, step: Step, runs: dict[str, Run | None], requested: bool) -> StepRow:
    if step.name not in runs:
        return StepRow(step.name, NOT_RUN if requested else NOT_REQUESTED)
    run = runs[step.name]
    if run is None:
        return StepRow(step.name, DELETED, summary="run deleted from the tracking server")
    state = _get_state(pipeline, run, requested)
    return StepRow(
        step.name,
        state,
        run.info.run_id,
        compute_seconds(run),
        pipeline.data.tags.get(WHY + step.name, ""),
        run.data.tags.get(SUMMARY, ""),
        _describe_failure(reader, run) if state in (FAILED, STOPPED) else "",
    )


def _get_state(pipeline: Run, run: Run, requested: bool) -> str:
    if run.data.tags.get(MLFLOW_PARENT_RUN_ID) != pipeline.info.run_id:
        return REUSED if requested else READ
    return _BY_STATUS.get(run.info.status, RUNNING)


def compute_seconds(run: Run) -> float | None:
    """Return the duration of a run, or None if it has not ended."""
    return (run.info.end_time - run.info.start_time) / 1000 if run.info.end_time else None


def _describe_failure(reader: Reader, run: Run) -> str:
    """Return the error message of a step; for a step that crashed or was killed, the end of its output."""
    if message := run.data.tags.get(ERROR):
        return str(message)
    log = reader.fetch_text(run, LOG_ARTIFACT)
    if not log:
        return f"The step ended with status {run.info.status}. It logged neither an error message nor any output."
    lines = "\n".join(log.splitlines()[-LAST_LINES:])
    return f"The step ended with status {run.info.status} and no error message. Last lines of {LOG_ARTIFACT}:\n{lines}"

"""How each step of a pipeline run came out: ran, reused, failed; how long it took, why again, what it said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from pipeline.report.artifact_reader import Reader
from pipeline.steps import STEPS, Step, select_steps
from pipeline.tags import LAST_LINES, LOG_ARTIFACT, WHY
from stepkit.store.lineage import ERROR, SUMMARY

RAN, REUSED, FAILED, STOPPED, RUNNING = "ran", "reused", "failed", "interrupted", "running"
READ, NOT_RUN, NOT_REQUESTED, DELETED = "read", "not run", "not asked for", "gone"
_BY_STATUS = {"FINISHED": RAN, "FAILED": FAILED, "KILLED": STOPPED}


@dataclass(frozen=True)
class StepRow:
    """One row of the table of steps.

    Attributes:
        state: one of the words above.
        seconds: how long it took; of a reused one, how long it took when it ran.
        error: its message when it failed, or the last lines of its log.
    """

    name: str
    state: str
    run_id: str = ""
    seconds: float | None = None
    why: str = ""
    said: str = ""
    error: str = ""


def list_step_rows(reader: Reader, run: Run, runs: dict[str, Run | None], config: dict[str, Any]) -> list[StepRow]:
    """Every step of the table of steps, in its order."""
    asked = find_requested_steps(config, runs)
    return [_make_step_row(reader, run, step, runs, step.name in asked) for step in STEPS]


def find_requested_steps(config: dict[str, Any], runs: dict[str, Run | None]) -> set[str]:
    """The steps that were to be executed; if that is not known, those that have a run."""
    names = (config.get("main") or {}).get("execute_steps")
    return {step.name for step in select_steps([names] if isinstance(names, str) else names)} if names else {*runs}


def _make_step_row(reader: Reader, pipeline: Run, step: Step, runs: dict[str, Run | None], asked: bool) -> StepRow:
    if step.name not in runs:
        return StepRow(step.name, NOT_RUN if asked else NOT_REQUESTED)
    run = runs[step.name]
    if run is None:
        return StepRow(step.name, DELETED, said="its run is not on the tracking server any more")
    state = _get_state(pipeline, run, asked)
    return StepRow(
        step.name,
        state,
        run.info.run_id,
        compute_seconds(run),
        pipeline.data.tags.get(WHY + step.name, ""),
        run.data.tags.get(SUMMARY, ""),
        _describe_failure(reader, run) if state in (FAILED, STOPPED) else "",
    )


def _get_state(pipeline: Run, run: Run, asked: bool) -> str:
    if run.data.tags.get(MLFLOW_PARENT_RUN_ID) != pipeline.info.run_id:
        return REUSED if asked else READ
    return _BY_STATUS.get(run.info.status, RUNNING)


def compute_seconds(run: Run) -> float | None:
    return (run.info.end_time - run.info.start_time) / 1000 if run.info.end_time else None


def _describe_failure(reader: Reader, run: Run) -> str:
    """What the step said; one that crashed or was killed said nothing, so the end of its output has to do."""
    if said := run.data.tags.get(ERROR):
        return str(said)
    log = reader.unlisted(run, LOG_ARTIFACT)
    if not log:
        return f"It ended as {run.info.status} without a message, and its output is not known."
    lines = "\n".join(log.splitlines()[-LAST_LINES:])
    return f"It ended as {run.info.status} without a message of its own. The last lines of {LOG_ARTIFACT}:\n{lines}"

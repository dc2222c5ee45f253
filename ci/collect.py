"""A pipeline's run on the tracking server -> summary.json: what was measured, how the steps got on, what went wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from ci.summary import Base, Checks, Confusion, Measure, StepLine, Summary, Verdict
from pipeline.report.artifact_reader import Reader
from pipeline.report.gather import EVALUATION, verdict_name
from pipeline.steps import STEPS
from pipeline.tags import STEP_RUN, WHY
from stepkit.store.lineage import ERROR, PIPELINE, SUMMARY
from stepkit.store.tracking import missing_as
from stepkit.table.columns import COLUMNS_ARTIFACT, read_columns

TEST = "test_"
EXAMPLE_ROWS = "  example rows"
"""How check_data begins the rows that it shows."""


def newest_pipeline(client: MlflowClient, experiment: str, since: int) -> Run | None:
    """Return the newest pipeline's run of an experiment that began at `since` (ms since 1970) or later."""
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return None
    runs = client.search_runs(
        [found.experiment_id], f"attributes.start_time >= {since}", order_by=["attributes.start_time DESC"]
    )
    return next((run for run in runs if run.data.tags.get(PIPELINE) == run.info.run_id), None)


def collect(client: MlflowClient, run: Run, commit: str, base: Base | None, folder: Path) -> Summary:
    """Return what the comment on a pipeline's run shows.

    Args:
        commit: 40 hexadecimal digits, or "" where it is not known.
        base: what main's last run found.
        folder: where downloads may lie for the while.
    """
    runs = _step_runs(client, run)
    evaluate, check_data = runs.get("evaluate"), runs.get("check_data")
    reader = Reader(client, folder)
    evaluation = reader.json(evaluate, EVALUATION) or {}
    return Summary(
        data=run.data.params.get("data", "unknown"),
        commit=commit,
        succeeded=run.info.status == "FINISHED",
        seconds=_seconds(run) or 0.0,
        metrics=_metrics(evaluate, evaluation),
        base=base,
        confusion=_confusion(client, runs.get("segregate"), evaluation, folder),
        checks=_checks(check_data),
        verdict=_verdict(reader.json(evaluate, verdict_name(evaluate))),
        steps=[_line(run, step.name, runs.get(step.name)) for step in STEPS],
        model=_tag(runs.get("register"), SUMMARY),
        error=without_rows(run.data.tags.get(ERROR, ""))[:4000],
    )


def without_rows(error: str) -> str:
    """Return a message without the rows that a data check shows as examples: a comment may be read by anyone."""
    return error.partition(EXAMPLE_ROWS)[0].rstrip()


def _step_runs(client: MlflowClient, run: Run) -> dict[str, Run]:
    tags = run.data.tags
    return {key.removeprefix(STEP_RUN): client.get_run(one) for key, one in tags.items() if key.startswith(STEP_RUN)}


def _metrics(evaluate: Run | None, evaluation: dict[str, Any]) -> dict[str, Measure]:
    """What evaluate logged, with the intervals of evaluation.json where it has some; what is not finite is left out."""
    if evaluate is None:
        return {}
    logged = {name.removeprefix(TEST): value for name, value in evaluate.data.metrics.items() if name.startswith(TEST)}
    found = evaluation.get("metrics") or {name: {"value": value} for name, value in logged.items()}
    kept = {name: {end: one.get(end) for end in ("value", "low", "high")} for name, one in found.items()}
    return {name: Measure(**ends) for name, ends in kept.items() if _is_number(ends["value"])}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < float("inf")


def _confusion(
    client: MlflowClient, segregate: Run | None, evaluation: dict[str, Any], folder: Path
) -> Confusion | None:
    if not evaluation.get("confusion"):
        return None
    classes = ("0", "1")
    with missing_as():
        if segregate:
            columns = client.download_artifacts(segregate.info.run_id, COLUMNS_ARTIFACT, str(folder))
            classes = read_columns(Path(columns)).class_names
    return Confusion(**evaluation["confusion"], classes=(classes[0][:80], classes[1][:80]))


def _checks(check_data: Run | None) -> Checks | None:
    metrics = check_data.data.metrics if check_data else {}
    if "checks_passed" not in metrics:
        return None
    counts = {name: int(metrics.get(f"checks_{name}", 0)) for name in ("passed", "failed", "skipped")}
    # the summary begins with the number that have passed
    return Checks(**counts, said=_tag(check_data, SUMMARY).partition("; ")[2])


def _verdict(found: dict[str, Any] | None) -> Verdict | None:
    if not found:
        return None
    rules = found.get("rules", [])
    return Verdict(passed=bool(found["passed"]), reasons=[str(rule.get("reason", ""))[:600] for rule in rules[:20]])


def _line(pipeline: Run, name: str, run: Run | None) -> StepLine:
    if run is None:
        return StepLine(name=name, state="not run")
    ours = run.data.tags.get(MLFLOW_PARENT_RUN_ID) == pipeline.info.run_id
    state: Literal["ran", "reused", "failed"] = "ran" if ours else "reused"
    if run.info.status != "FINISHED":
        state = "failed"
    why = pipeline.data.tags.get(WHY + name, "")[:600]
    return StepLine(name=name, state=state, seconds=_seconds(run), said=_tag(run, SUMMARY), why=why)


def _tag(run: Run | None, name: str) -> str:
    return str(run.data.tags.get(name, ""))[:600] if run else ""


def _seconds(run: Run) -> float | None:
    if run.info.end_time is None:
        return None
    return float(max(0, run.info.end_time - run.info.start_time)) / 1000


def fetch_report(client: MlflowClient, run: Run, folder: Path) -> list[str]:
    """Download the report's pages (report.html, report.md), where the pipeline has made them; return their names."""
    names: list[str] = []
    with missing_as():
        names = [entry.path for entry in client.list_artifacts(run.info.run_id) if entry.path.startswith("report.")]
        for name in names:
            mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=name, dst_path=str(folder))
    return names

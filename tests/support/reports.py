"""Reports for tests without a pipeline run: a page with every kind of block, and the data of its sections."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from mlflow.entities import Param, Run, RunData, RunInfo

from pipeline.report.blocks import CODE, GOOD, Cell, Code, Figure, Section, Table, Text, make_cells
from pipeline.report.gather import PipelineResult
from pipeline.report.page import Page, Tile

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HOSTILE = "`a` | **b** | #1 ~c~ @octocat https://x.io www.x.io <img src=x> [here](http://x.io) \u202eabc"


def make_page(*blocks: Table | Text | Code) -> Page:
    """Return the report of a failed run whose texts contain markup."""
    steps = Table(
        "Steps of the pipeline",
        ["step", "state"],
        [make_cells(Cell("download", CODE), "ran"), make_cells("check_data", HOSTILE)],
    )
    metrics = Table("Metrics", ["metric", "this model"], [make_cells("ROC AUC", Cell("0.7775", GOOD))], numbers=True)
    folded = Table("Columns", ["column"], [make_cells("AGE")], folded=True)
    return Page(
        title="Run report: credit_default version 4",
        kind="bad",
        outcome="Failed at check_data",
        about="Pipeline run 1f in experiment ci",
        tiles=[Tile("Duration", "9.3 s", "3 ran, 4 reused")],
        failures=[Code("check_data failed", f"2 of 94 data checks failed\n{HOSTILE}\n  example rows\n    AGE 777")],
        lost=["verdict.json is no longer in the artifact store."],
        sections=[
            Section("steps", "Steps", [steps, *blocks]),
            Section("metrics", "Metrics on the test split", [Text("8,990 rows."), metrics, folded]),
            Section("plots", "Plots", [Figure("ROC curve", "area under the curve 0.7775", "iVBO")]),
            Section("card", "Model card", [Text("for the page only")]),
        ],
        made="2026-11-30 21:00:00 UTC",
    )


def make_result(**changes: Any) -> PipelineResult:
    """Return the data of a report, empty except for `changes`."""
    empty: dict[str, Any] = {field.name: None for field in fields(PipelineResult)}
    return PipelineResult(**{**empty, "runs": {}, "steps": [], "config": {}, "lost": [], **changes})


def make_run(data: str) -> Run:
    """Return a pipeline run on this data set."""
    info = RunInfo("1f", "0", "someone", "FINISHED", 0, 1, "active")
    return Run(info, RunData(params=[Param("data", data)]))

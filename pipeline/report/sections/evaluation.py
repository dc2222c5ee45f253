"""Sections on the evaluation: plots, slices of the test split, and importance of columns."""

from __future__ import annotations

from typing import Any

from pipeline.report.blocks import (
    MOST_OPEN_ROWS,
    QUIET,
    WARN,
    Block,
    Cell,
    Section,
    Table,
    Text,
    list_figures,
    make_cells,
)
from pipeline.report.format import format_count, format_interval
from pipeline.report.gather import PipelineResult
from pipeline.report.schemas import Estimate, Evaluation, Slice
from pipeline.report.sections.data import get_data_settings
from stepkit.model.metric_table import format_metric, get_metric

SLICE_METRICS = ("roc_auc", "recall", "precision", "calibration_error")
"""Metrics of each slice, also compared between the groups of a column."""

CAPTIONS = {
    "roc_curve.png": "ROC curve",
    "precision_recall.png": "Precision and recall",
    "confusion_matrix.png": "Confusion matrix",
}
"""Plots of the section Plots. Other sections show their own."""

IMPORTANCE_FIGURES = (
    ("importance.png", "Permutation importance on the test split"),
    ("effects.png", "Effects of the strongest columns"),
    ("feature_importance.png", "Importance of encoded features in the model"),
)


def make_plots_section(result: PipelineResult) -> Section:
    """Return the section with the plots."""
    figures = ((name, caption, _describe_plot(result, name)) for name, caption in CAPTIONS.items())
    return Section("plots", "Plots", [*list_figures(result.pictures, *figures)])


def _describe_plot(result: PipelineResult, name: str) -> str:
    """Return the alternative text of a plot, with its main figure."""
    evaluation = result.evaluation or Evaluation(metrics={})
    roc_auc, precision = (
        format_metric(evaluation.get_estimate(name).value) for name in ("roc_auc", "average_precision")
    )
    value = {
        "roc_curve.png": f"area under the curve {roc_auc}",
        "precision_recall.png": f"average precision {precision}",
        "confusion_matrix.png": "shares of each true class, and counts",
    }[name]
    return f"{CAPTIONS[name]}: {value}"


def make_slices_section(result: PipelineResult) -> Section:
    """Return the metrics of each slice. The section is empty if the run computed no slices."""
    if not result.evaluation or not result.evaluation.slices:
        return Section("slices", "Slices")
    slices, worst = result.evaluation.slices, result.evaluation.worst_slice
    names = [name for name in SLICE_METRICS if any(name in group.metrics for group in slices)]
    headings = ["slice", "rows", "positives", *(get_metric(name).label for name in names)]
    rows = [_make_slice_row(group, names, worst) for group in slices]
    summary = Text(f"Worst slice: {worst.label}.", WARN) if worst else Text("The evaluation names no worst slice.")
    caption, is_long = "Metrics of each slice, with their intervals", len(rows) > MOST_OPEN_ROWS
    return Section("slices", "Slices", [summary, Table(caption, headings, rows, numbers=True, folded=is_long)])


def make_importance_section(result: PipelineResult) -> Section:
    """Return the permutation importance of each column. The section is empty if the run computed none."""
    title, alt = "Importance of columns", "the most important columns, the largest value first"
    pictures = [(name, caption, f"{caption}: {alt}") for name, caption in IMPORTANCE_FIGURES]
    blocks: list[Block] = [*list_figures(result.pictures, *pictures)]
    columns = result.evaluation.importance if result.evaluation else []
    if not columns:
        return Section("importance", title, blocks)
    rows = [
        make_cells(
            column.label,
            format_metric(column.value),
            Cell(format_interval(column.low, column.high), QUIET),
            "" if column.effect is None else format_metric(column.effect),
        )
        for column in columns
    ]
    first = Text(f"Most important column: {columns[0].label}, loss of ROC AUC {format_metric(columns[0].value)}.")
    method = Text("Loss of ROC AUC on the test split when the values of one column are shuffled among the rows.", QUIET)
    headings = ["column", "loss of AUC", "interval", "mean absolute effect"]
    table = Table("Permutation importance and mean absolute effect", headings, rows, numbers=True, folded=True)
    return Section("importance", title, [first, method, *blocks, table, *_make_reference_blocks(result)])


def _make_reference_blocks(result: PipelineResult) -> list[Block]:
    """Return the reference row of the model; nothing for a model of an earlier release."""
    reference = result.evaluation.reference_row if result.evaluation else {}
    if not reference:
        return []
    described = get_data_settings(result).get("columns") or {}
    rows = [_make_reference_row(name, value, described.get(name) or {}) for name, value in reference.items()]
    about = (
        "An effect is the change of the probability that a column causes, compared with the reference row: the median "
        "or most frequent value of each column in the training rows. The reasons for an answer are effects too."
    )
    return [Text(about, QUIET), Table("Reference row", ["column", "value"], rows, folded=True)]


def _make_reference_row(name: str, value: float | str | None, column: dict[str, Any]) -> list[Cell]:
    text = "missing" if value is None else f"{value:,}" if isinstance(value, int | float) else value
    code = {str(key): label for key, label in (column.get("labels") or {}).items()}.get(str(value))
    return make_cells(str(column.get("label") or name), f"{text} ({code})" if code else text)


def _make_slice_row(group: Slice, names: list[str], worst: Slice | None) -> list[Cell]:
    is_worst = worst is not None and group.label == worst.label
    row = make_cells(
        Cell(group.label, WARN if is_worst else ""), format_count(group.rows), format_count(group.positives)
    )
    for name in names:
        metric = group.metrics.get(name, Estimate())
        kind = QUIET if metric.value is None else ""
        row.append(Cell(format_metric(metric.value), kind, note=format_interval(metric.low, metric.high)))
    return row

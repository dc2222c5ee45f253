"""Sections on the evaluation: plots, slices of the test split, and importance of columns."""

from __future__ import annotations

from pipeline.report.blocks import QUIET, WARN, Cell, Section, Table, Text, list_figures, make_cells
from pipeline.report.format import format_count, format_interval
from pipeline.report.gather import PipelineResult
from pipeline.report.schemas import Estimate, Evaluation, Slice
from stepkit.model.metric_table import format_metric, get_metric

SLICE_METRICS = ("roc_auc", "recall", "precision", "calibration_error")
"""Metrics of each slice, also compared between the groups of a column."""

CAPTIONS = {
    "roc_curve.png": "ROC curve",
    "precision_recall.png": "Precision and recall",
    "score_distribution.png": "Distribution of the predicted probabilities",
    "confusion_matrix.png": "Confusion matrix",
    "importance.png": "Permutation importance on the test split",
    "feature_importance.png": "Importance of encoded features in the model",
}


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
        "score_distribution.png": "predicted probabilities by true class",
    }.get(name, "the most important columns, the largest value on top")
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
    return Section(
        "slices",
        "Slices",
        [summary, Table("Metrics of each slice, with their intervals", headings, rows, numbers=True)],
    )


def make_importance_section(result: PipelineResult) -> Section:
    """Return the permutation importance of each column. The section is empty if the run computed none."""
    title = "Importance of columns"
    if not result.evaluation or not result.evaluation.importance:
        return Section("importance", title)
    rows = [
        make_cells(column.label, format_metric(column.value), Cell(format_interval(column.low, column.high), QUIET))
        for column in result.evaluation.importance
    ]
    method = "Loss of ROC AUC on the test split when the values of one column are shuffled among the rows."
    table = Table("Permutation importance", ["column", "loss of AUC", "interval"], rows, numbers=True, folded=True)
    return Section("importance", title, [Text(method, QUIET), table])


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

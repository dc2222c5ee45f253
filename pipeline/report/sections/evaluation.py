"""The parts of an evaluation: its plots, the slices of the test split, and the importance of each column."""

from __future__ import annotations

from pipeline.report.blocks import QUIET, WARN, Cell, Figure, Section, Table, Text, make_cells
from pipeline.report.format import format_count, format_interval
from pipeline.report.gather import PipelineResult
from pipeline.report.schemas import Estimate, Evaluation, Slice
from stepkit.model.metric_table import format_metric, get_metric

SLICE_METRICS = ("roc_auc", "recall", "precision", "calibration_error")
"""The metrics that are shown of each slice, and compared between the groups of a column."""

CAPTIONS = {
    "roc_curve.png": "ROC curve",
    "precision_recall.png": "Precision and recall",
    "calibration.png": "Calibration",
    "score_distribution.png": "Distribution of the scores",
    "confusion_matrix.png": "Confusion matrix",
    "importance.png": "Permutation importance on the test split",
    "feature_importance.png": "Importance within the forest",
}


def make_plots_section(result: PipelineResult) -> Section:
    return Section(
        "plots",
        "Plots",
        [Figure(CAPTIONS[name], _describe_plot(result, name), png) for name, png in result.pictures.items()],
    )


def _describe_plot(result: PipelineResult, name: str) -> str:
    """What a plot shows, in words and with its figures, for readers who do not see it."""
    evaluation = result.evaluation or Evaluation(metrics={})
    value = {
        "roc_curve.png": f"area under the curve {format_metric(evaluation.get_estimate('roc_auc').value)}",
        "precision_recall.png": f"average precision {format_metric(evaluation.get_estimate('average_precision').value)}",
        "calibration.png": f"Brier score {format_metric(evaluation.get_estimate('brier_score').value)}",
        "confusion_matrix.png": "shares of each true class, and counts",
        "score_distribution.png": "probabilities that the model gave to each true class",
    }.get(name, "the columns that matter most, the first on top")
    return f"{CAPTIONS[name]}: {value}"


def make_slices_section(result: PipelineResult) -> Section:
    if not result.evaluation or not result.evaluation.slices:
        return Section("slices", "Slices")
    slices, worst = result.evaluation.slices, result.evaluation.worst_slice
    names = [name for name in SLICE_METRICS if any(name in one.metrics for one in slices)]
    headings = ["slice", "rows", "positives"]
    for name in names:
        headings += [get_metric(name).label, *(["interval"] if has_intervals(slices, name) else [])]
    rows = [_make_slice_row(one, names, slices, worst) for one in slices]
    said = Text(f"The worst slice is {worst.label}.", WARN) if worst else Text("No slice is named as the worst.")
    return Section("slices", "Slices", [said, Table("Slices", headings, rows, numbers=True)])


def make_importance_section(result: PipelineResult) -> Section:
    title = "What each column is worth"
    if not result.evaluation or not result.evaluation.importance:
        return Section("importance", title)
    rows = [
        make_cells(one.label, format_metric(one.value), Cell(format_interval(one.low, one.high), QUIET))
        for one in result.evaluation.importance
    ]
    said = "How much ROC AUC is lost on the test split when the values of one column are shuffled among the rows."
    table = Table("Importance of columns", ["column", "loss of AUC", "interval"], rows, numbers=True, folded=True)
    return Section("importance", title, [Text(said, QUIET), table])


def has_intervals(slices: list[Slice], name: str) -> bool:
    return any(format_interval(one.low, one.high) for each in slices if (one := each.metrics.get(name)))


def _make_slice_row(one: Slice, names: list[str], slices: list[Slice], worst: Slice | None) -> list[Cell]:
    is_worst = worst is not None and one.label == worst.label
    row = make_cells(Cell(one.label, WARN if is_worst else ""), format_count(one.rows), format_count(one.positives))
    for name in names:
        result = one.metrics.get(name, Estimate())
        row.append(Cell(format_metric(result.value), QUIET if result.value is None else ""))
        if has_intervals(slices, name):
            row.append(Cell(format_interval(result.low, result.high), QUIET))
    return row

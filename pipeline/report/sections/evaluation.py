"""The parts of an evaluation: its plots, the slices of the test split, and what each column is worth."""

from __future__ import annotations

from typing import Any

from pipeline.report.blocks import QUIET, WARN, Cell, Figure, Figures, Section, Table, Text, cells
from pipeline.report.format import count, interval, metric_name, number
from pipeline.report.gather import Found
from pipeline.report.schemas import Estimate, Evaluation, Slice

IN_SLICES = ("roc_auc", "recall", "precision", "calibration_error")
"""What is shown of each slice, and compared between the groups of a column."""

CAPTIONS = {
    "roc_curve.png": "ROC curve",
    "precision_recall.png": "Precision and recall",
    "calibration.png": "Calibration",
    "score_distribution.png": "Distribution of the scores",
    "confusion_matrix.png": "Confusion matrix",
    "importance.png": "Permutation importance on the test split",
    "feature_importance.png": "Importance within the forest",
}


def plots_section(found: Found) -> Section:
    figures = [Figure(CAPTIONS[name], _alt(found, name), png) for name, png in found.pictures.items()]
    return Section("plots", "Plots", [Figures(figures)] if figures else [])


def _alt(found: Found, name: str) -> str:
    """What a plot shows, in words and with its figures, for whoever does not see it."""
    evaluation = found.evaluation or Evaluation()
    value = {
        "roc_curve.png": f"area under the curve {number(evaluation.value('roc_auc'))}",
        "precision_recall.png": f"average precision {number(evaluation.value('average_precision'))}",
        "calibration.png": f"Brier score {number(evaluation.value('brier_score'))}",
        "confusion_matrix.png": "shares of each true class, and counts",
        "score_distribution.png": "probabilities that the model gave to each true class",
    }.get(name, "the columns that matter most, the first on top")
    return f"{CAPTIONS[name]}: {value}"


def slices_section(found: Found) -> Section:
    slices = found.evaluation.slices if found.evaluation else []
    if not slices:
        return Section("slices", "Slices")
    names = [name for name in IN_SLICES if any(name in one.metrics for one in slices)]
    worst = worst_name(found)
    headings = ["slice", "rows", "positives"]
    for name in names:
        headings += [metric_name(name), *(["interval"] if has_intervals(slices, name) else [])]
    rows = [_slice_row(one, names, slices, worst) for one in slices]
    said = f"The worst slice is {worst}." if worst else "No slice is named as the worst."
    return Section(
        "slices", "Slices", [Text(said, WARN if worst else ""), Table("Slices", headings, rows, numbers=True)]
    )


def importance_section(found: Found) -> Section:
    """What each column is worth, as numbers: the plot says it to those who see it."""
    measured = found.evaluation.importance if found.evaluation else []
    if not measured:
        return Section("importance", "What each column is worth")
    rows = [
        cells(one.label or one.column, number(one.value), Cell(interval(one.low, one.high), QUIET)) for one in measured
    ]
    said = "How much ROC AUC is lost on the test split when the values of one column are shuffled among the rows."
    table = Table("Importance of columns", ["column", "loss of AUC", "interval"], rows, numbers=True, folded=True)
    return Section("importance", "What each column is worth", [Text(said, QUIET), table])


def has_intervals(slices: list[Slice], name: str) -> bool:
    return any(interval(one.low, one.high) for each in slices if (one := each.metrics.get(name)))


def _slice_row(one: Slice, names: list[str], slices: list[Slice], worst: str) -> list[Cell]:
    row = cells(Cell(one.name, WARN if one.name == worst else ""), count(one.rows), count(one.positives))
    for name in names:
        found = one.metrics.get(name, Estimate())
        row.append(Cell(number(found.value), QUIET if found.value is None else ""))
        if has_intervals(slices, name):
            row.append(Cell(interval(found.low, found.high), QUIET))
    return row


def worst_name(found: Found) -> str:
    """The name of the worst slice, whichever way evaluate has put it; "" if there is none."""
    worst: Any = found.evaluation.worst_slice if found.evaluation else None
    if isinstance(worst, dict) and "column" in worst:
        return Slice.model_validate({key: worst.get(key) for key in ("column", "value", "label")}).name
    return str(worst) if isinstance(worst, str) else ""

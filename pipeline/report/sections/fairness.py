"""Section on the groups of the protected columns: approval rates, errors and calibration."""

from __future__ import annotations

from pipeline.report.blocks import BAD, QUIET, WARN, Block, Cell, Section, Table, Text, make_cells
from pipeline.report.format import format_count, format_interval, format_percent
from pipeline.report.gather import PipelineResult
from pipeline.report.schemas import Estimate, FairnessGroup
from stepkit.model.metric_table import format_metric

TITLE = "Protected groups"
RULES = ("approval_ratio", "opportunity_gap")
ABOUT = (
    "Class 0 counts as approved. Approval ratio: the approval rate as a share of the highest one of the column; the "
    "four-fifths rule requires 0.8 (29 CFR 1607.4 D). Opportunity gap: the highest approval rate of clients of class "
    "0, minus that of the group (Hardt, Price, Srebro, 2016). Calibration: mean probability minus observed rate."
)
HEADINGS = [
    "group",
    "rows",
    "approval rate",
    "approval ratio",
    "opportunity gap",
    "true positive rate",
    "false positive rate",
    "calibration",
]


def make_fairness_section(result: PipelineResult) -> Section:
    """Return a table for each protected column. The section is empty without protected columns."""
    columns = result.evaluation.fairness if result.evaluation else []
    if not columns:
        return Section("fairness", TITLE)
    rules = [rule for rule in result.verdict.rules if rule.name in RULES] if result.verdict else []
    blocks: list[Block] = [Text(f"{_capitalize(rule.reason)}.", "" if rule.passed else BAD) for rule in rules]
    if result.evaluation and (cost := result.evaluation.cost_of_protected):
        interval = format_interval(cost.low, cost.high)
        names = ", ".join(cost.columns)
        blocks.append(Text(f"Cost of leaving out {names}: {format_metric(cost.value)} of ROC AUC ({interval})."))
    for column in columns:
        if column.reason:
            blocks.append(Text(f"{column.label}: groups are not compared, because {column.reason}.", QUIET))
        caption = f"{column.label}: groups with their intervals"
        blocks.append(Table(caption, HEADINGS, [_make_row(group) for group in column.groups], numbers=True))
    return Section("fairness", TITLE, [*blocks, Text(ABOUT, QUIET)])


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]


def _make_row(group: FairnessGroup) -> list[Cell]:
    return make_cells(
        group.label,
        format_count(group.rows),
        _make_cell(group.approval_rate),
        _make_ratio_cell(group.approval_ratio),
        _make_cell(group.opportunity_gap),
        _make_cell(group.true_positive_rate),
        _make_cell(group.false_positive_rate),
        _make_cell(group.calibration, sign=True),
    )


def _make_cell(estimate: Estimate, sign: bool = False) -> Cell:
    if estimate.value is None:
        return Cell("", QUIET)
    if sign:
        values = [f"{value:+.1%}" for value in (estimate.value, estimate.low, estimate.high) if value is not None]
    else:
        values = [format_percent(value) for value in (estimate.value, estimate.low, estimate.high)]
    has_interval = len(values) == 3 and estimate.low != estimate.high
    return Cell(values[0], note=" to ".join(values[1:]) if has_interval else "")


def _make_ratio_cell(ratio: Estimate) -> Cell:
    if ratio.value is None:
        return Cell("not compared", QUIET)
    if ratio.low is None or ratio.high is None or ratio.low == ratio.high:
        return Cell(f"{ratio.value:.3f}", note="highest rate")
    return Cell(f"{ratio.value:.3f}", WARN if ratio.high < 1 else "", note=f"{ratio.low:.3f} to {ratio.high:.3f}")

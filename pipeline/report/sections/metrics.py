"""How good the model is: metrics with intervals against the champion, and the confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Callable

from pipeline.report.blocks import BAD, GOOD, QUIET, WARN, Block, Cell, Section, Table, Text, make_cells
from pipeline.report.format import format_count, format_difference, format_interval
from pipeline.report.gather import Base, PipelineResult, test_rows
from pipeline.report.schemas import Champion, Confusion, Cost, Estimate, Estimates, Evaluation
from pipeline.report.sections.data import get_data_settings
from stepkit.model.metric_table import NOT_COMPUTED, format_metric, get_metric

Column = tuple[str, Callable[[str], Cell]]
"""Its heading, and the cell of each metric."""


def find_champion(result: PipelineResult) -> Champion | None:
    """The champion and its metrics on the same rows, if the model was compared with one."""
    champion = result.evaluation.champion if result.evaluation else None
    return champion if champion and champion.metrics else None


def explain_no_comparison(result: PipelineResult) -> str:
    champion = result.evaluation.champion if result.evaluation else None
    return (champion and champion.reason_not_compared) or "there was no champion to compare with"


def get_differences(result: PipelineResult) -> Estimates:
    """This model minus the champion."""
    return result.evaluation.difference if result.evaluation and find_champion(result) else {}


def compute_plain_differences(ours: Evaluation, theirs: Evaluation) -> Estimates:
    """Ours minus theirs; without the calibration error, unless both were computed with the same kind of bins."""
    same_bins = ours.calibration_bins is not None and ours.calibration_bins == theirs.calibration_bins
    both = {name: (one.value, theirs.get_estimate(name).value) for name, one in ours.metrics.items()}
    return {
        name: Estimate(value=our - their)
        for name, (our, their) in both.items()
        if our is not None and their is not None and (name != "calibration_error" or same_bins)
    }


def make_metrics_section(result: PipelineResult) -> Section:
    return Section("metrics", "Metrics on the test split", _make_blocks(result))


def _make_blocks(result: PipelineResult) -> list[Block]:
    evaluation = result.evaluation
    if evaluation is None:
        missing = "has not run, so nothing is known of how good the model is on the test split"
        return [Text(f"The step evaluate {'left no metrics' if 'evaluate' in result.runs else missing}.", WARN)]
    classes = get_class_names(result)
    blocks: list[Block] = [
        Text(_describe_measurement(evaluation, classes[1]), QUIET),
        _make_metrics_table(result, evaluation),
        Text(_describe_champion(result), QUIET),
    ]
    if result.base:
        blocks.append(Text(_describe_base(result, result.base), QUIET))
    if evaluation.confusion:
        blocks.append(make_confusion_table(evaluation.confusion, classes))
    if evaluation.cost:
        blocks.append(Text(_describe_cost(evaluation.cost)))
    return blocks


def _describe_measurement(evaluation: Evaluation, positive: str) -> str:
    parts = []
    if evaluation.rows is not None:
        positives = f", {evaluation.positives:,} of them positive (class {positive})" if evaluation.positives else ""
        parts.append(f"{evaluation.rows:,} rows{positives}.")
    if evaluation.threshold is not None:
        parts.append(f"Classes are given at a probability of {evaluation.threshold:.4g}.")
    made = evaluation.intervals
    if made is None:
        return " ".join([*parts, "This run computed no intervals."])
    how = f"{made.level:.0%} intervals: {made.method}, {made.resamples:,} resamples, seed {made.seed}."
    return " ".join([*parts, how])


def _describe_champion(result: PipelineResult) -> str:
    theirs = find_champion(result)
    if theirs is None:
        return f"Not compared with a champion: {explain_no_comparison(result)}."
    left_out = f"; {theirs.rows_excluded:,} that it was trained on are left out" if theirs.rows_excluded else ""
    unknown = "; it may have been trained on some of them" if theirs.rows_unknown else ""
    return f"Compared with the champion, version {theirs.version}, on {theirs.rows_compared:,} rows{left_out}{unknown}."


def _describe_base(result: PipelineResult, base: Base) -> str:
    ours = test_rows(result.runs.get("evaluate"))
    rows = "on other test rows, so that the difference is of models and rows"
    if not ours or not base.test_rows:
        rows = "on test rows that are not known"
    elif ours == base.test_rows:
        rows = "on the same test rows"
    return f"Base: {base.name}, {rows}. Its difference is plain, without an interval."


def _describe_cost(cost: Cost) -> str:
    each = ", ".join(f"{get_metric(name).label}: {format_plain(value)}" for name, value in cost.matrix.items())
    return f"Mistakes cost {format_metric(cost.per_row)} per row, {cost.total:,.0f} in all ({each}), by evaluate.costs."


def _make_metrics_table(result: PipelineResult, evaluation: Evaluation) -> Table:
    columns = _make_value_columns("this model", evaluation.metrics)
    if theirs := find_champion(result):
        differences = get_differences(result)
        columns += _make_value_columns(f"champion (version {theirs.version})", theirs.metrics)
        columns += [
            ("difference", lambda name: _make_difference_cell(name, differences)),
            *_make_interval_columns(differences),
        ]
    if result.base:
        base = result.base.evaluation
        plain_ones = compute_plain_differences(evaluation, base)
        columns += _make_value_columns("base", base.metrics)
        columns.append(("difference to base", lambda name: _make_plain_difference_cell(name, plain_ones)))
    rows = [[Cell(_format_label(name)), *(cell(name) for _, cell in columns)] for name in evaluation.metrics]
    return Table("Metrics", ["metric", *(heading for heading, _ in columns)], rows, numbers=True)


def _format_label(name: str) -> str:
    metric = get_metric(name)
    return f"{metric.label}{' (less is better)' if metric.lower_is_better else ''}"


def _make_value_columns(heading: str, estimates: Estimates) -> list[Column]:
    values: Column = (heading, lambda name: Cell(format_metric(estimates.get(name, Estimate()).value)))
    return [values, *_make_interval_columns(estimates)]


def _make_interval_columns(estimates: Estimates) -> list[Column]:
    def cell(name: str) -> Cell:
        one = estimates.get(name, Estimate())
        return Cell(format_interval(one.low, one.high), QUIET)

    return [("interval", cell)] if any(cell(name).text for name in estimates) else []


def _make_difference_cell(name: str, estimates: Estimates) -> Cell:
    one = estimates.get(name, Estimate())
    return Cell(format_difference(one.value), judge_difference(name, one))


def _make_plain_difference_cell(name: str, estimates: Estimates) -> Cell:
    """A difference without an interval: which direction it has is a word, and no colour."""
    if name not in estimates:
        return Cell("not compared", QUIET)
    value = estimates[name].value or 0.0
    if not _is_visible(value):
        return Cell(format_difference(value))
    return Cell(
        f"{format_difference(value)} {'better' if (value < 0) == get_metric(name).lower_is_better else 'worse'}"
    )


def _is_visible(value: float | None) -> bool:
    return value is not None and bool(format_difference(value).strip("+-0."))


def judge_difference(name: str, one: Estimate) -> str:
    """GOOD or BAD if the whole interval of a difference is on one side of 0; "" if it is not, or has none."""
    if not _is_visible(one.value) or one.low is None or one.high is None or one.low <= 0 <= one.high:
        return ""
    return GOOD if (one.low > 0) != get_metric(name).lower_is_better else BAD


def get_class_names(result: PipelineResult) -> tuple[str, str]:
    """The target's own values in the source: that of class 0, that of class 1."""
    settings = get_data_settings(result)
    return str(settings.get("negative", 0)), str(settings.get("positive", 1))


def make_confusion_table(result: Confusion, classes: tuple[str, str]) -> Table:
    negative, positive = classes
    rows = [
        make_cells(
            f"true class {name}", _format_share(no, no + yes), _format_share(yes, no + yes), format_count(no + yes)
        )
        for name, no, yes in ((negative, result.tn, result.fp), (positive, result.fn, result.tp))
    ]
    headings = ["", f"predicted {negative}", f"predicted {positive}", "rows"]
    return Table("Confusion matrix", headings, rows, numbers=True)


def _format_share(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.1%})" if whole else f"{part:,}"


def format_plain(value: float | None, missing: str = NOT_COMPUTED) -> str:
    return missing if value is None or not math.isfinite(value) else f"{value:.4g}"

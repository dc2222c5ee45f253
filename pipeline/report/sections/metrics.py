"""Section on the metrics: intervals, comparison with the champion, and confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Callable

from pipeline.report.blocks import BAD, GOOD, QUIET, WARN, Block, Cell, Section, Table, Text, make_cells
from pipeline.report.format import format_count, format_difference, format_interval
from pipeline.report.gather import Base, PipelineResult, find_test_digest
from pipeline.report.schemas import Champion, Confusion, Cost, Estimate, Estimates, Evaluation
from pipeline.report.sections.data import get_data_settings
from stepkit.model.metric_table import NOT_COMPUTED, format_metric, get_metric
from stepkit.table.columns import format_class
from stepkit.words import pluralize

Column = tuple[str, Callable[[str], Cell]]
"""Heading of a column, and a function that returns its cell for a metric."""


def find_champion(result: PipelineResult) -> Champion | None:
    """Return the champion with its metrics on the same rows, or None if the model was not compared with one."""
    champion = result.evaluation.champion if result.evaluation else None
    return champion if champion and champion.metrics else None


def explain_no_comparison(result: PipelineResult) -> str:
    """Return the reason why the model was not compared with a champion."""
    champion = result.evaluation.champion if result.evaluation else None
    return (champion and champion.reason_not_compared) or "there was no champion"


def get_differences(result: PipelineResult) -> Estimates:
    """Return the metrics of this model minus those of the champion."""
    return result.evaluation.difference if result.evaluation and find_champion(result) else {}


def compute_plain_differences(evaluation: Evaluation, base: Evaluation) -> Estimates:
    """Return the metrics minus those of the base. Calibration errors are compared only if both use the same bins."""
    same_bins = evaluation.calibration_bins is not None and evaluation.calibration_bins == base.calibration_bins
    values = {name: (metric.value, base.get_estimate(name).value) for name, metric in evaluation.metrics.items()}
    return {
        name: Estimate(value=value - base_value)
        for name, (value, base_value) in values.items()
        if value is not None and base_value is not None and (name != "calibration_error" or same_bins)
    }


def make_metrics_section(result: PipelineResult) -> Section:
    """Return the metrics on the test split."""
    return Section("metrics", "Metrics on the test split", _make_blocks(result))


def _make_blocks(result: PipelineResult) -> list[Block]:
    evaluation = result.evaluation
    if evaluation is None:
        reason = "published no metrics" if "evaluate" in result.runs else "has not run"
        return [Text(f"Metrics: unknown, because the step evaluate {reason}.", WARN)]
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
        parts.append(f"{pluralize(evaluation.rows, 'row')}{positives}.")
    if evaluation.threshold is not None:
        parts.append(f"Threshold for class {positive}: {evaluation.threshold:.4g}.")
    intervals = evaluation.intervals
    if intervals is None:
        return " ".join([*parts, "This run computed no intervals."])
    method = f"{intervals.method}, {intervals.resamples:,} resamples, seed {intervals.seed}"
    return " ".join([*parts, f"{intervals.level:.0%} intervals: {method}."])


def _describe_champion(result: PipelineResult) -> str:
    champion = find_champion(result)
    if champion is None:
        return f"Not compared with a champion: {explain_no_comparison(result)}."
    compared = f"Compared with the champion (version {champion.version}) on {pluralize(champion.rows_compared, 'row')}."
    excluded = (
        f" Excluded: {pluralize(champion.rows_excluded, 'row')} of its training data." if champion.rows_excluded else ""
    )
    unknown = " Its training data may contain some of these rows." if champion.rows_unknown else ""
    return f"{compared}{excluded}{unknown}"


def _describe_base(result: PipelineResult, base: Base) -> str:
    test_digest = find_test_digest(result.runs.get("evaluate"))
    rows = "on other test rows, so the difference comes from both the model and the rows"
    if not test_digest or not base.test_rows:
        rows = "on unknown test rows"
    elif test_digest == base.test_rows:
        rows = "on the same test rows"
    return f"Base: {base.name}, {rows}. The difference has no interval."


def _describe_cost(cost: Cost) -> str:
    costs = ", ".join(f"{get_metric(name).label}: {format_plain(value)}" for name, value in cost.matrix.items())
    amounts = f"{format_metric(cost.per_row)} per row, {cost.total:,.0f} in total"
    return f"Cost of mistakes (evaluate.costs): {amounts} ({costs})."


def _make_metrics_table(result: PipelineResult, evaluation: Evaluation) -> Table:
    columns = _make_value_columns("this model", evaluation.metrics)
    if champion := find_champion(result):
        differences = get_differences(result)
        columns += _make_value_columns(f"champion (version {champion.version})", champion.metrics)
        columns += [
            ("difference", lambda name: _make_difference_cell(name, differences)),
            *_make_interval_columns(differences),
        ]
    if result.base:
        base = result.base.evaluation
        plain_differences = compute_plain_differences(evaluation, base)
        columns += _make_value_columns("base", base.metrics)
        columns.append(("difference to base", lambda name: _make_plain_difference_cell(name, plain_differences)))
    rows = [[Cell(_format_label(name)), *(cell(name) for _, cell in columns)] for name in evaluation.metrics]
    return Table("Metrics", ["metric", *(heading for heading, _ in columns)], rows, numbers=True)


def _format_label(name: str) -> str:
    metric = get_metric(name)
    return f"{metric.label}{' (lower is better)' if metric.lower_is_better else ''}"


def _make_value_columns(heading: str, estimates: Estimates) -> list[Column]:
    values: Column = (heading, lambda name: Cell(format_metric(estimates.get(name, Estimate()).value)))
    return [values, *_make_interval_columns(estimates)]


def _make_interval_columns(estimates: Estimates) -> list[Column]:
    def make_cell(name: str) -> Cell:
        metric = estimates.get(name, Estimate())
        return Cell(format_interval(metric.low, metric.high), QUIET)

    return [("interval", make_cell)] if any(make_cell(name).text for name in estimates) else []


def _make_difference_cell(name: str, estimates: Estimates) -> Cell:
    difference = estimates.get(name, Estimate())
    return Cell(format_difference(difference.value), judge_difference(name, difference))


def _make_plain_difference_cell(name: str, estimates: Estimates) -> Cell:
    """Return a difference without an interval. Words state its direction; a colour would claim significance."""
    if name not in estimates:
        return Cell("not compared", QUIET)
    value = estimates[name].value or 0.0
    if not _is_visible(value):
        return Cell(format_difference(value))
    direction = "better" if (value < 0) == get_metric(name).lower_is_better else "worse"
    return Cell(f"{format_difference(value)} {direction}")


def _is_visible(value: float | None) -> bool:
    return value is not None and bool(format_difference(value).strip("+-0."))


def judge_difference(name: str, difference: Estimate) -> str:
    """Return GOOD or BAD if the interval of a difference excludes 0, else ""."""
    low, high = difference.low, difference.high
    if not _is_visible(difference.value) or low is None or high is None or low <= 0 <= high:
        return ""
    return GOOD if (low > 0) != get_metric(name).lower_is_better else BAD


def get_class_names(result: PipelineResult) -> tuple[str, str]:
    """Return the values of the target in the source for class 0 and class 1."""
    settings = get_data_settings(result)
    return format_class(settings.get("negative", 0)), format_class(settings.get("positive", 1))


def make_confusion_table(result: Confusion, classes: tuple[str, str]) -> Table:
    """Return counts by true and predicted class, with their shares of the true class."""
    negative, positive = classes
    rows = [
        make_cells(
            f"true class {name}", _format_share(no, no + yes), _format_share(yes, no + yes), format_count(no + yes)
        )
        for name, no, yes in ((negative, result.tn, result.fp), (positive, result.fn, result.tp))
    ]
    headings = ["", f"predicted {negative}", f"predicted {positive}", "rows"]
    return Table("Confusion matrix", headings, rows, numbers=True)


def _format_share(part: int, total: int) -> str:
    return f"{part:,} ({part / total:.1%})" if total else f"{part:,}"


def format_plain(value: float | None, missing: str = NOT_COMPUTED) -> str:
    """Return a number with four significant digits, or `missing`."""
    return missing if value is None or not math.isfinite(value) else f"{value:.4g}"

"""How good the model is: metrics with intervals against the champion, and the confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Callable

from pipeline.report.blocks import BAD, GOOD, QUIET, WARN, Block, Cell, Section, Table, Text, cells
from pipeline.report.format import count, difference, interval
from pipeline.report.gather import Base, Found, test_rows
from pipeline.report.schemas import Champion, Confusion, Cost, Estimate, Estimates, Evaluation
from pipeline.report.sections.data import data_settings
from stepkit.model.metric_table import NOT_COMPUTED, metric_of, number

Column = tuple[str, Callable[[str], Cell]]
"""Its heading, and the cell of each metric."""


def champion_of(found: Found) -> Champion | None:
    """The champion and its metrics on the same rows, if the model was compared with one."""
    champion = found.evaluation.champion if found.evaluation else None
    return champion if champion and champion.metrics else None


def why_not_compared(found: Found) -> str:
    champion = found.evaluation.champion if found.evaluation else None
    return (champion and champion.reason_not_compared) or "there was no champion to compare with"


def differences_of(found: Found) -> Estimates:
    """This model minus the champion."""
    return found.evaluation.difference if found.evaluation and champion_of(found) else {}


def plain_differences(ours: Evaluation, theirs: Evaluation) -> Estimates:
    """Ours minus theirs; without the calibration error, unless both were computed with the same kind of bins."""
    same_bins = ours.calibration_bins is not None and ours.calibration_bins == theirs.calibration_bins
    both = {name: (one.value, theirs.estimate(name).value) for name, one in ours.metrics.items()}
    return {
        name: Estimate(value=our - their)
        for name, (our, their) in both.items()
        if our is not None and their is not None and (name != "calibration_error" or same_bins)
    }


def metrics_section(found: Found) -> Section:
    return Section("metrics", "Metrics on the test split", _blocks(found))


def _blocks(found: Found) -> list[Block]:
    evaluation = found.evaluation
    if evaluation is None:
        missing = "has not run, so nothing is known of how good the model is on the test split"
        return [Text(f"The step evaluate {'left no metrics' if 'evaluate' in found.runs else missing}.", WARN)]
    classes = class_names(found)
    blocks: list[Block] = [
        Text(_how_measured(evaluation, classes[1]), QUIET),
        _metrics_table(found, evaluation),
        Text(_about_champion(found), QUIET),
    ]
    if found.base:
        blocks.append(Text(_about_base(found, found.base), QUIET))
    if evaluation.confusion:
        blocks.append(confusion_table(evaluation.confusion, classes))
    if evaluation.cost:
        blocks.append(Text(_about_cost(evaluation.cost)))
    return blocks


def _how_measured(evaluation: Evaluation, positive: str) -> str:
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


def _about_champion(found: Found) -> str:
    theirs = champion_of(found)
    if theirs is None:
        return f"Not compared with a champion: {why_not_compared(found)}."
    left_out = f"; {theirs.rows_excluded:,} that it was trained on are left out" if theirs.rows_excluded else ""
    unknown = "; it may have been trained on some of them" if theirs.rows_unknown else ""
    return f"Compared with the champion, version {theirs.version}, on {theirs.rows_compared:,} rows{left_out}{unknown}."


def _about_base(found: Found, base: Base) -> str:
    ours = test_rows(found.runs.get("evaluate"))
    rows = "on other test rows, so that the difference is of models and rows"
    if not ours or not base.test_rows:
        rows = "on test rows that are not known"
    elif ours == base.test_rows:
        rows = "on the same test rows"
    return f"Base: {base.name}, {rows}. Its difference is plain, without an interval."


def _about_cost(cost: Cost) -> str:
    each = ", ".join(f"{metric_of(name).label}: {plain(value)}" for name, value in cost.matrix.items())
    return f"Mistakes cost {number(cost.per_row)} per row, {cost.total:,.0f} in all ({each}), by evaluate.costs."


def _metrics_table(found: Found, evaluation: Evaluation) -> Table:
    columns = _values("this model", evaluation.metrics)
    if theirs := champion_of(found):
        differences = differences_of(found)
        columns += _values(f"champion (version {theirs.version})", theirs.metrics)
        columns += [("difference", lambda name: _difference(name, differences)), *_intervals(differences)]
    if found.base:
        base = found.base.evaluation
        plain_ones = plain_differences(evaluation, base)
        columns += _values("base", base.metrics)
        columns.append(("difference to base", lambda name: _plain_difference(name, plain_ones)))
    rows = [[Cell(_label(name)), *(cell(name) for _, cell in columns)] for name in evaluation.metrics]
    return Table("Metrics", ["metric", *(heading for heading, _ in columns)], rows, numbers=True)


def _label(name: str) -> str:
    metric = metric_of(name)
    return f"{metric.label}{' (less is better)' if metric.lower_is_better else ''}"


def _values(heading: str, estimates: Estimates) -> list[Column]:
    values: Column = (heading, lambda name: Cell(number(estimates.get(name, Estimate()).value)))
    return [values, *_intervals(estimates)]


def _intervals(estimates: Estimates) -> list[Column]:
    def cell(name: str) -> Cell:
        one = estimates.get(name, Estimate())
        return Cell(interval(one.low, one.high), QUIET)

    return [("interval", cell)] if any(cell(name).text for name in estimates) else []


def _difference(name: str, estimates: Estimates) -> Cell:
    one = estimates.get(name, Estimate())
    return Cell(difference(one.value), tendency(name, one))


def _plain_difference(name: str, estimates: Estimates) -> Cell:
    """A difference without an interval: which direction it has is a word, and no colour."""
    if name not in estimates:
        return Cell("not compared", QUIET)
    value = estimates[name].value or 0.0
    if not _is_seen(value):
        return Cell(difference(value))
    return Cell(f"{difference(value)} {'better' if (value < 0) == metric_of(name).lower_is_better else 'worse'}")


def _is_seen(value: float | None) -> bool:
    return value is not None and bool(difference(value).strip("+-0."))


def tendency(name: str, one: Estimate) -> str:
    """GOOD or BAD if the whole interval of a difference is on one side of 0; "" if it is not, or has none."""
    if not _is_seen(one.value) or one.low is None or one.high is None or one.low <= 0 <= one.high:
        return ""
    return GOOD if (one.low > 0) != metric_of(name).lower_is_better else BAD


def class_names(found: Found) -> tuple[str, str]:
    """The target's own values in the source: that of class 0, that of class 1."""
    settings = data_settings(found)
    return str(settings.get("negative", 0)), str(settings.get("positive", 1))


def confusion_table(found: Confusion, classes: tuple[str, str]) -> Table:
    negative, positive = classes
    rows = [
        cells(f"true class {name}", _with_share(no, no + yes), _with_share(yes, no + yes), count(no + yes))
        for name, no, yes in ((negative, found.tn, found.fp), (positive, found.fn, found.tp))
    ]
    headings = ["", f"predicted {negative}", f"predicted {positive}", "rows"]
    return Table("Confusion matrix", headings, rows, numbers=True)


def _with_share(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.1%})" if whole else f"{part:,}"


def plain(value: float | None, missing: str = NOT_COMPUTED) -> str:
    return missing if value is None or not math.isfinite(value) else f"{value:.4g}"

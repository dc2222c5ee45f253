"""How good the model is: metrics with intervals against the champion, confusion matrix, plots, slices, the gate."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from pipeline.report.blocks import (
    BAD,
    GOOD,
    QUIET,
    WARN,
    Block,
    Cell,
    Section,
    Table,
    Text,
    cells,
)
from pipeline.report.format import (
    NOT_COMPUTED,
    count,
    difference,
    interval,
    metric_name,
    number,
    share,
)
from pipeline.report.gather import Found
from pipeline.report.schemas import Champion, Confusion, Estimate, Estimates, Evaluation
from pipeline.report.sections.data import data_settings
from stepkit.settings.evaluate import LOWER_IS_BETTER


def champion_of(found: Found) -> Champion | None:
    """The champion and its metrics on the same rows, if the model was compared with one."""
    evaluation, verdict = found.evaluation, found.verdict
    if evaluation and evaluation.champion and evaluation.champion.metrics:
        return evaluation.champion
    if verdict and verdict.champion_metrics:  # as runs noted it that published no evaluation.json
        metrics = {name: Estimate(value=value) for name, value in verdict.champion_metrics.items()}
        return Champion(version=verdict.champion_version, metrics=metrics)
    return None


def why_not_compared(found: Found) -> str:
    evaluation = found.evaluation
    if evaluation and evaluation.champion and evaluation.champion.reason_not_compared:
        return evaluation.champion.reason_not_compared
    return "there was no champion to compare with"


def differences_of(found: Found) -> Estimates:
    """This model minus the champion; without intervals where evaluate has computed none."""
    evaluation, theirs = found.evaluation, champion_of(found)
    if evaluation is None or theirs is None:
        return {}
    return evaluation.difference or plain_differences(evaluation.metrics, theirs.metrics or {})


def plain_differences(ours: Estimates, theirs: Estimates) -> Estimates:
    both = {name: (one.value, theirs[name].value) for name, one in ours.items() if name in theirs}
    return {name: Estimate(value=a - b) for name, (a, b) in both.items() if a is not None and b is not None}


def metrics_section(found: Found) -> Section:
    evaluation = found.evaluation
    if evaluation is None:
        return Section("metrics", "Metrics on the test split", [Text(_why_no_metrics(found), WARN)])
    blocks: list[Block] = [
        Text(_how_measured(evaluation, class_names(found)[1]), QUIET),
        _metrics_table(found, evaluation),
    ]
    blocks.append(Text(_about_champion(found), QUIET))
    if found.base:
        blocks.append(Text(_about_base(found), QUIET))
    blocks += _confusion(evaluation, class_names(found))
    return Section("metrics", "Metrics on the test split", blocks)


def _why_no_metrics(found: Found) -> str:
    if "evaluate" not in found.runs:
        return "The step evaluate has not run, so nothing is known of how good the model is on the test split."
    return "The step evaluate left no metrics."


def _about_champion(found: Found) -> str:
    theirs = champion_of(found)
    if theirs is None:
        return f"Not compared with a champion: {why_not_compared(found)}."
    if theirs.rows_compared is None:
        return f"Compared with the champion, version {theirs.version}, on the same rows."
    left_out = f"; {theirs.rows_excluded:,} that it was trained on are left out" if theirs.rows_excluded else ""
    unknown = "; it may have been trained on some of them" if theirs.rows_unknown else ""
    return f"Compared with the champion, version {theirs.version}, on {theirs.rows_compared:,} rows{left_out}{unknown}."


def _how_measured(evaluation: Evaluation, positive: str) -> str:
    parts = []
    if evaluation.rows is not None:
        positives = (
            "" if evaluation.positives is None else f", {evaluation.positives:,} of them positive (class {positive})"
        )
        parts.append(f"{evaluation.rows:,} rows{positives}.")
    if evaluation.threshold is not None:
        parts.append(f"Classes are given at a probability of {evaluation.threshold:.4g}.")
    made = evaluation.intervals
    if made is None:
        return " ".join([*parts, "This run computed no intervals."])
    level = f"{made.level:.0%} intervals" if made.level else "Intervals"
    how = [made.method or "", f"{made.resamples:,} resamples" if made.resamples else ""]
    how.append(f"seed {made.seed}" if made.seed is not None else "")
    return " ".join([*parts, f"{level}: {', '.join(filter(None, how))}."])


Column = tuple[str, Callable[[str], Cell]]


def _metrics_table(found: Found, evaluation: Evaluation) -> Table:
    columns = _of(evaluation.metrics, "this model")
    theirs, ours = champion_of(found), differences_of(found)
    if theirs:
        columns += _of(theirs.metrics or {}, f"champion (version {theirs.version})")
        columns += _difference_to(ours, "difference")
    if found.base:
        base = found.base.evaluation.metrics
        columns += _of(base, "base") + _difference_to(plain_differences(evaluation.metrics, base), "difference to base")
    rows = [[Cell(_metric_label(name)), *(cell(name) for _, cell in columns)] for name in evaluation.metrics]
    return Table("Metrics", ["metric", *(heading for heading, _ in columns)], rows, numbers=True)


def _metric_label(name: str) -> str:
    return f"{metric_name(name)}{' (less is better)' if name in LOWER_IS_BETTER else ''}"


def _of(estimates: Estimates, heading: str) -> list[Column]:
    found: list[Column] = [(heading, lambda name: Cell(number(estimates.get(name, Estimate()).value)))]
    return found + _intervals(estimates)


def _difference_to(estimates: Estimates, heading: str) -> list[Column]:
    def cell(name: str) -> Cell:
        one = estimates.get(name, Estimate())
        return Cell(difference(one.value), tendency(name, one))

    return [(heading, cell), *_intervals(estimates)]


def _intervals(estimates: Estimates) -> list[Column]:
    if not any(interval(one.low, one.high) for one in estimates.values()):
        return []

    def cell(name: str) -> Cell:
        one = estimates.get(name, Estimate())
        return Cell(interval(one.low, one.high), QUIET)

    return [("interval", cell)]


def tendency(name: str, one: Estimate) -> str:
    """GOOD or BAD if the whole interval of a difference lies on one side of 0; "" if it does not, or has none."""
    shown = difference(one.value).strip("+-0.")  # nobody is helped by a colour on 0.0000
    if not shown or one.low is None or one.high is None or one.low <= 0 <= one.high:
        return ""
    return GOOD if (one.low > 0) != (name in LOWER_IS_BETTER) else BAD


_SAME_ROWS = {
    True: "on the same test rows",
    False: "on other test rows, so that the difference is of models and rows",
    None: "on test rows that are not known",
}


def _about_base(found: Found) -> str:
    assert found.base is not None
    rows = _SAME_ROWS[found.base.same_rows]
    return f"Base: pipeline run {found.base.run_id}, {rows}. Its difference is plain, without an interval."


def class_names(found: Found) -> tuple[str, str]:
    """The target's own values in the source: that of class 0, that of class 1."""
    settings = data_settings(found)
    return str(settings.get("negative", 0)), str(settings.get("positive", 1))


def _confusion(evaluation: Evaluation, classes: tuple[str, str]) -> list[Block]:
    blocks: list[Block] = []
    if evaluation.confusion:
        blocks.append(confusion_table(evaluation.confusion, classes))
    if evaluation.cost:
        cost = evaluation.cost
        total = f", {cost.total:,.0f} in all" if cost.total is not None else ""
        blocks.append(
            Text(f"Mistakes cost {number(cost.per_row)} per row{total}{_cost_of_each(cost.matrix)}, by evaluate.costs.")
        )
    return blocks


def _cost_of_each(matrix: Any) -> str:
    if not isinstance(matrix, dict):
        return "" if matrix is None else f", after the cost matrix {json.dumps(matrix)}"
    return f" ({', '.join(f'{metric_name(str(name))}: {plain(one)}' for name, one in matrix.items())})"


def confusion_table(found: Confusion, classes: tuple[str, str]) -> Table:
    negative, positive = classes
    rows = [(f"true class {negative}", found.tn, found.fp), (f"true class {positive}", found.fn, found.tp)]
    shown = [
        cells(name, _with_share(no, no + yes), _with_share(yes, no + yes), count(no + yes)) for name, no, yes in rows
    ]
    headings = ["", f"predicted {negative}", f"predicted {positive}", "rows"]
    return Table("Confusion matrix", headings, shown, numbers=True)


def _with_share(one: int, of: int) -> str:
    return f"{one:,} ({share(one / of)})" if of else f"{one:,}"


def plain(value: Any, missing: str = NOT_COMPUTED) -> str:
    if value is None:
        return missing
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value if isinstance(value, str) else json.dumps(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if math.isfinite(value) else missing

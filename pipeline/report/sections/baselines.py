"""Section on the baselines: the best single column and a logistic regression, on the same rows as the model."""

from __future__ import annotations

from pipeline.report.blocks import GOOD, QUIET, WARN, Cell, Section, Table, Text, make_cells
from pipeline.report.format import format_difference, format_interval
from pipeline.report.gather import PipelineResult
from pipeline.report.schemas import Baseline, Estimate
from pipeline.report.sections.metrics import judge_difference
from stepkit.model.metric_table import format_metric
from stepkit.words import pluralize


def make_baselines_section(result: PipelineResult) -> Section:
    """Return the ROC AUC of the model and of its baselines. The section is empty for a run of an earlier release."""
    title = "Baselines"
    evaluation = result.evaluation
    baselines = evaluation.baselines if evaluation else None
    if evaluation is None or baselines is None:
        return Section("baselines", title)
    if not baselines.results:
        return Section("baselines", title, [Text(f"Not compared: {baselines.reason_not_compared}.", WARN)])
    auc = evaluation.get_estimate("roc_auc")
    rows = [_make_row("this model", auc, _to_gini(auc), Estimate())]
    rows += [
        _make_row(baseline.label, baseline.roc_auc, baseline.gini, baseline.difference)
        for baseline in baselines.results
    ]
    headings = [
        "ranking of the test rows by",
        "ROC AUC",
        "interval",
        "Gini",
        "interval",
        "model minus this",
        "interval",
    ]
    method = (
        f"The best column alone and a logistic regression, fitted on the {pluralize(baselines.rows, 'training row')} "
        "of the model. DeLong intervals of the baselines and of the paired differences."
    )
    table = Table("Model and baselines", headings, rows, numbers=True)
    return Section("baselines", title, [_make_summary(baselines.results), Text(method, QUIET), table])


def describe_baselines(result: PipelineResult) -> str:
    """Return the outcome of the comparison in words; "" for a run of an earlier release."""
    baselines = result.evaluation.baselines if result.evaluation else None
    return _make_summary(baselines.results).text if baselines and baselines.results else ""


def _make_summary(results: list[Baseline]) -> Text:
    names = [baseline.label for baseline in results if not (baseline.difference.low or 0.0) > 0]
    if names:
        return Text(f"The model is not shown to be better than {' and '.join(names)}.", WARN)
    return Text("The model is better than both baselines.", GOOD)


def _to_gini(auc: Estimate) -> Estimate:
    values = {name: None if value is None else 2 * value - 1 for name, value in auc}
    return Estimate(**values)


def _make_row(label: str, auc: Estimate, gini: Estimate, difference: Estimate) -> list[Cell]:
    gap = "" if difference.value is None else format_difference(difference.value)
    return make_cells(
        label,
        format_metric(auc.value),
        Cell(format_interval(auc.low, auc.high), QUIET),
        format_metric(gini.value),
        Cell(format_interval(gini.low, gini.high), QUIET),
        Cell(gap, judge_difference("roc_auc", difference)),
        Cell(format_interval(difference.low, difference.high), QUIET),
    )

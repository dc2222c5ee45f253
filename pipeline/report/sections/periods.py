"""Section on the periods of the test split: its metrics per month, quarter or year."""

from __future__ import annotations

from pipeline.report.blocks import MOST_OPEN_ROWS, QUIET, WARN, Block, Cell, Section, Table, Text, make_cells
from pipeline.report.format import format_count, format_interval
from pipeline.report.gather import PipelineResult
from pipeline.report.schemas import Estimate, Period, Periods
from stepkit.model.metric_table import NOT_COMPUTED, format_metric
from stepkit.words import pluralize

HEADINGS = [
    "period",
    "rows",
    "default rate",
    "mean probability",
    "probability minus rate",
    "ROC AUC",
    "calibration error",
]


def make_periods_section(result: PipelineResult) -> Section:
    """Return the metrics per period. The section is empty if the table has no dates."""
    periods = result.evaluation.periods if result.evaluation else None
    return Section("periods", "Periods", _make_blocks(periods) if periods else [])


def _make_blocks(periods: Periods) -> list[Block]:
    undated = f" {pluralize(periods.undated, 'row')} without a date belong to no period." if periods.undated else ""
    about = (
        f"The rows of the test split by {periods.column}. Probability minus rate: mean probability minus default rate, "
        f"above 0 if the model predicts too many defaults.{undated}"
    )
    rows = [_make_row(period) for period in periods.periods]
    table = Table(
        "Metrics per period, with their intervals", HEADINGS, rows, numbers=True, folded=len(rows) > MOST_OPEN_ROWS
    )
    return [Text(_describe_range(periods)), Text(about, QUIET), table]


def _describe_range(periods: Periods) -> str:
    """Return the lowest and the highest ROC AUC of a period, in words."""
    values = [(period.roc_auc.value, period.period) for period in periods.periods if period.roc_auc]
    computed = [(value, name) for value, name in values if value is not None]
    missing = len(periods.periods) - len(computed)
    if not computed:
        return f"No {periods.unit} has enough rows of both classes for a ROC AUC."
    (low, lowest), (high, highest) = min(computed), max(computed)
    text = f"ROC AUC per {periods.unit}: {format_metric(low, 3)} ({lowest}) to {format_metric(high, 3)} ({highest})."
    return text if not missing else f"{text} Not computed for {pluralize(missing, 'period')}."


def _make_row(period: Period) -> list[Cell]:
    auc, excess = period.roc_auc or Estimate(), period.excess
    is_apart = excess.low is not None and excess.high is not None and not excess.low <= 0 <= excess.high
    interval = f"{excess.low:+.2%} to {excess.high:+.2%}" if excess.low is not None and excess.high is not None else ""
    return make_cells(
        period.period,
        format_count(period.rows),
        *(f"{share:.2%}" for share in (period.default_rate, period.mean_probability)),
        Cell("" if excess.value is None else f"{excess.value:+.2%}", WARN if is_apart else "", note=interval),
        Cell(
            NOT_COMPUTED if auc.value is None else format_metric(auc.value),
            QUIET if period.reason else "",
            note=period.reason or format_interval(auc.low, auc.high),
        ),
        "" if period.calibration_error is None else format_metric(period.calibration_error),
    )

"""Section on the periods of the test split: its metrics per month, quarter or year."""

from __future__ import annotations

from pipeline.report.blocks import QUIET, WARN, Cell, Section, Table, Text, make_cells
from pipeline.report.format import format_count, format_interval
from pipeline.report.gather import PipelineResult
from pipeline.report.schemas import Estimate, Period
from stepkit.model.metric_table import NOT_COMPUTED, format_metric, get_metric

METRICS = ("roc_auc", "calibration_error")


def make_periods_section(result: PipelineResult) -> Section:
    """Return the metrics per period. The section is empty if the table has no dates."""
    title = "Test split over time"
    periods = result.evaluation.periods if result.evaluation else None
    if periods is None:
        return Section("periods", title)
    undated = f" Rows without a date, which belong to no period: {periods.undated:,}." if periods.undated else ""
    headings = ["period", "rows", "default rate", "mean probability", *(get_metric(name).label for name in METRICS)]
    rows = [_make_row(period) for period in periods.periods]
    about = f"Rows of the test split by the {periods.unit} of {periods.column}.{undated}"
    table = Table("Metrics per period, with their intervals", headings, rows, numbers=True)
    return Section("periods", title, [Text(about, QUIET), table])


def _make_row(period: Period) -> list[Cell]:
    rates = (f"{share:.2%}" for share in (period.default_rate, period.mean_probability))
    row = make_cells(period.period, format_count(period.rows), *rates)
    for estimate in (period.roc_auc, period.calibration_error):
        metric = estimate or Estimate()
        note = format_interval(metric.low, metric.high)
        text = NOT_COMPUTED if metric.value is None else format_metric(metric.value)
        row.append(Cell(text, WARN if period.reason else "", note=period.reason or note))
    return row

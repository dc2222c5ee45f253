"""Section on the information value of each column on the training split."""

from __future__ import annotations

from pipeline.report.blocks import CODE, QUIET, Block, Cell, Figure, Section, Table, Text, make_cells
from pipeline.report.format import format_count
from pipeline.report.gather import PipelineResult
from stepkit.model.bands import IV_BANDS, name_band
from stepkit.model.metric_table import format_metric
from stepkit.words import pluralize

TITLE = "Information value of columns"
DETAILED_COLUMNS = 10
"""Columns with a table of their bins; iv.csv has the bins of all columns."""

MOST_BINS = 60
ABOUT = (
    "How well each column alone separates the classes on the training split. The value is the sum over the bins of "
    "(share of class 0 - share of class 1) times the weight of evidence. The weight of evidence is ln(share of class 0 "
    "/ share of class 1). A column without any relation to the target exceeds the value in the column 'by chance' in "
    "5 % of such samples."
)
CUSTOM = (
    "By custom: below 0.02 not predictive, below 0.1 weak, below 0.3 medium, below 0.5 strong, from 0.5 suspiciously "
    "strong, so that a leak of the target is possible (Siddiqi, Credit Risk Scorecards, 2006)."
)


def make_information_section(result: PipelineResult) -> Section:
    """Return the information values. The section is empty if the training run published none."""
    columns: dict[str, list[dict[str, str]]] = {}
    for row in result.information:
        columns.setdefault(row["column"], []).append(row)
    if not columns:
        return Section("information", TITLE)
    blocks: list[Block] = [Text(ABOUT, QUIET), Text(CUSTOM, QUIET)]
    if result.information_picture:
        best = next(iter(columns))
        alt = f"{TITLE}: the highest is that of {best}, {format_metric(float(columns[best][0]['iv_column']))}"
        blocks.append(Figure(TITLE, alt, result.information_picture))
    rows = [_make_column_row(name, bins) for name, bins in columns.items()]
    headings = ["column", "information value", "by chance", "by custom", "bins"]
    blocks.append(Table("Information value per column", headings, rows, numbers=True, folded=True))
    for name, bins in list(columns.items())[:DETAILED_COLUMNS]:
        blocks.append(_make_bin_table(name, bins))
    if len(columns) > DETAILED_COLUMNS:
        left_out = pluralize(len(columns) - DETAILED_COLUMNS, "further column")
        blocks.append(Text(f"The bins of {left_out} are in iv.csv of the training run.", QUIET))
    return Section("information", TITLE, blocks)


def _make_column_row(name: str, bins: list[dict[str, str]]) -> list[Cell]:
    value, chance = float(bins[0]["iv_column"]), float(bins[0]["iv_by_chance"])
    custom = name_band(value, IV_BANDS) if value > chance else "not above chance"
    return make_cells(Cell(name, CODE), format_metric(value), format_metric(chance), custom, str(len(bins)))


def _make_bin_table(name: str, bins: list[dict[str, str]]) -> Table:
    rows = [
        make_cells(
            row["bin"],
            format_count(float(row["rows"])),
            format_count(float(row["defaults"])),
            f"{float(row['default_rate']):.1%}",
            format_metric(float(row["woe"])),
            format_metric(float(row["iv"])),
        )
        for row in bins[:MOST_BINS]
    ]
    headings = ["bin", "rows", "defaults", "default rate", "weight of evidence", "information value"]
    more = f" (first {MOST_BINS} of {len(bins)} bins)" if len(bins) > MOST_BINS else ""
    return Table(f"Bins of {name}{more}", headings, rows, numbers=True, folded=True)

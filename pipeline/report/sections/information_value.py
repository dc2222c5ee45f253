"""Section on the information value of each column on the training split."""

from __future__ import annotations

from itertools import islice

from pipeline.report.blocks import CODE, QUIET, Block, Cell, Section, Table, Text, list_figures, make_cells
from pipeline.report.format import format_count, format_percent
from pipeline.report.gather import INFORMATION_PICTURE, PipelineResult
from stepkit.model.bands import IV_BANDS, name_band
from stepkit.model.metric_table import format_metric
from stepkit.words import pluralize

Bins = list[dict[str, str]]
"""Rows of iv.csv of one column."""

TITLE = "Information value of columns"
DETAILED_COLUMNS = 10
"""Columns whose bins are shown; iv.csv has the bins of all columns."""

NAMED_COLUMNS = 3
MOST_BINS = 60
ABOUT = (
    "The information value measures how well a column alone separates the classes on the training split. It is the sum "
    "over the bins of (share of class 0 - share of class 1) times the weight of evidence, which is ln(share of class 0 "
    "/ share of class 1). A column without any relation to the target exceeds the value 'by chance' in 5 % of such "
    "samples. By custom, a value from 0.5 is suspiciously strong, so that a leak of the target is possible (Siddiqi, "
    "Credit Risk Scorecards, 2006)."
)


def make_information_section(result: PipelineResult) -> Section:
    """Return the information values. The section is empty if the training run published none."""
    columns = _group_by_column(result)
    if not columns:
        return Section("information", TITLE)
    blocks: list[Block] = [_describe_highest(columns), Text(ABOUT, QUIET)]
    best = next(iter(columns))
    alt = f"{TITLE}: the highest is that of {best}, {format_metric(_get_value(columns[best]))}"
    blocks += list_figures(result.pictures, (INFORMATION_PICTURE, TITLE, alt))
    rows = [_make_column_row(name, bins) for name, bins in columns.items()]
    headings = ["column", "information value", "by chance", "by custom", "bins"]
    blocks.append(Table("Information value per column", headings, rows, numbers=True, folded=True))
    detailed = dict(islice(columns.items(), DETAILED_COLUMNS))
    blocks.append(_make_bin_table(detailed))
    if len(columns) > DETAILED_COLUMNS:
        left_out = pluralize(len(columns) - DETAILED_COLUMNS, "further column")
        blocks.append(Text(f"The bins of {left_out} are in iv.csv of the training run.", QUIET))
    return Section("information", TITLE, blocks)


def describe_highest_values(result: PipelineResult) -> str:
    """Return the columns with the highest information values, or "" if the training run published none."""
    columns = list(_group_by_column(result).items())[:NAMED_COLUMNS]
    named = ", ".join(f"{name} {format_metric(_get_value(bins))}" for name, bins in columns)
    return f"highest on the training split: {named}" if named else ""


def _group_by_column(result: PipelineResult) -> dict[str, Bins]:
    columns: dict[str, Bins] = {}
    for row in result.information or []:
        columns.setdefault(row["column"], []).append(row)
    return columns


def _get_value(bins: Bins) -> float:
    return float(bins[0]["iv_column"])


def _name_custom(bins: Bins) -> str:
    return name_band(_get_value(bins), IV_BANDS) if _is_above_chance(bins) else "not above chance"


def _is_above_chance(bins: Bins) -> bool:
    return _get_value(bins) > float(bins[0]["iv_by_chance"])


def _describe_highest(columns: dict[str, Bins]) -> Text:
    name, bins = next(iter(columns.items()))
    above = sum(map(_is_above_chance, columns.values()))
    return Text(
        f"Highest information value: {name}, {format_metric(_get_value(bins))} ({_name_custom(bins)}). Above chance: "
        f"{above} of {pluralize(len(columns), 'column')}."
    )


def _make_column_row(name: str, bins: Bins) -> list[Cell]:
    value, chance = format_metric(_get_value(bins)), format_metric(float(bins[0]["iv_by_chance"]))
    return make_cells(Cell(name, CODE), value, chance, _name_custom(bins), str(len(bins)))


def _make_bin_table(columns: dict[str, Bins]) -> Table:
    """Return the bins of several columns in one table, the first `MOST_BINS` of each column."""
    rows = [
        make_cells(
            Cell(name, CODE),
            row["bin"],
            format_count(float(row["rows"])),
            format_count(float(row["defaults"])),
            format_percent(float(row["default_rate"])),
            format_metric(float(row["woe"])),
            format_metric(float(row["iv"])),
        )
        for name, bins in columns.items()
        for row in bins[:MOST_BINS]
    ]
    headings = ["column", "bin", "rows", "defaults", "default rate", "weight of evidence", "information value"]
    hidden = sum(max(0, len(bins) - MOST_BINS) for bins in columns.values())
    more = f", without {pluralize(hidden, 'further bin')}" if hidden else ""
    caption = f"Bins of the {pluralize(len(columns), 'column')} with the highest values{more}"
    return Table(caption, headings, rows, numbers=True, folded=True)

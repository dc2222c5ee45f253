"""Section on the stability of the score and of each column: training rows against test rows."""

from __future__ import annotations

from pipeline.report.blocks import QUIET, WARN, Block, Cell, Section, Table, Text, make_cells
from pipeline.report.gather import PipelineResult
from pipeline.report.schemas import Stability, StabilityIndex
from stepkit.model.bands import PSI_BANDS, name_band
from stepkit.model.metric_table import format_metric
from stepkit.words import pluralize

TITLE = "Stability"
CONVENTION = (
    "By custom, an index below 0.1 is called stable and one of 0.25 or more a large change (Siddiqi, Credit Risk "
    "Scorecards, 2006). The custom ignores the number of rows; the threshold does not."
)


def make_stability_section(result: PipelineResult) -> Section:
    """Return the stability indices. The section is empty if the evaluation is older than they are."""
    stability = result.evaluation.stability if result.evaluation else None
    if stability is None:
        return Section("stability", TITLE)
    if stability.reason or stability.psi_score is None:
        reason = stability.reason or "the evaluation has no index of the score"
        return Section("stability", TITLE, [Text(f"No stability index: {reason}.", QUIET)])
    return Section("stability", TITLE, _make_blocks(stability, stability.psi_score))


def describe_stability(result: PipelineResult) -> str:
    """Return the stability index of the score in words, or "" if the evaluation has none."""
    stability = result.evaluation.stability if result.evaluation else None
    index = stability.psi_score if stability else None
    return f"PSI of the score, training against test rows: {describe_index(index)}" if index else ""


def _make_blocks(stability: Stability, score: StabilityIndex) -> list[Block]:
    exceeding = [column for column in stability.csi if column.is_above_threshold]
    rows = [_make_row("score (out of sample)", score), *(_make_row(column.label, column) for column in stability.csi)]
    headings = ["", "index", "threshold", "by custom", "bins", "above the threshold"]
    return [
        Text(
            f"Population stability index of the score: {describe_index(score)}. Columns above their threshold: "
            f"{len(exceeding)} of {len(stability.csi)}.",
            WARN if any(_is_large(index) for index in (score, *exceeding)) else "",
        ),
        Text(f"{_describe_rows(stability)} {CONVENTION}", QUIET),
        Table("Stability index of the score and of each column", headings, rows, numbers=True, folded=True),
    ]


def describe_index(index: StabilityIndex) -> str:
    """Return "0.0012 (stable by custom; threshold 0.0041)", or the reason for its absence."""
    if index.value is None:
        return f"not computed ({index.reason})"
    custom = name_band(index.value, PSI_BANDS)
    return f"{format_metric(index.value)} ({custom} by custom; threshold {format_metric(index.threshold)})"


def _describe_rows(stability: Stability) -> str:
    if stability.training_rows is None or stability.rows is None or stability.level is None:
        return ""
    training, test = pluralize(stability.training_rows, "training row"), pluralize(stability.rows, "test row")
    unchanged = (
        f"If nothing has changed, all indices are below their thresholds in {stability.level:.0%} of such samples."
    )
    return f"{training} against {test}. {unchanged}"


def _is_large(index: StabilityIndex) -> bool:
    return index.is_above_threshold and (index.value or 0.0) >= PSI_BANDS[0][0]


def _make_row(name: str, index: StabilityIndex) -> list[Cell]:
    if index.value is None:
        return make_cells(name, Cell("not computed", QUIET, note=index.reason), "", "", "", "")
    return make_cells(
        name,
        format_metric(index.value),
        format_metric(index.threshold),
        name_band(index.value, PSI_BANDS),
        str(index.bins),
        Cell("yes", WARN if _is_large(index) else "") if index.is_above_threshold else "no",
    )

"""The data: their source, the rows that each step kept, the results of the data checks, the meaning of the columns."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pipeline.report.blocks import (
    BAD,
    CODE,
    GOOD,
    QUIET,
    WARN,
    Block,
    Cell,
    Section,
    Table,
    Text,
    make_cells,
    make_fact_table,
)
from pipeline.report.format import format_count, pluralize
from pipeline.report.gather import CHECKS, PipelineResult
from stepkit.store.lineage import DATA_SET, OUTPUT, SUMMARY, DataSet, list_published

NOT_STATED = "not stated"
DRAFT_DESCRIPTION = "what the table is, where it comes from"
"""Beginning of the placeholder that earlier drafts of `describe` have as their description."""

DIGEST_CHARACTERS = len("sha256:") + 16
"""Characters of a digest that are enough to tell two apart."""

TABLE_STEPS = ("download", "preprocess", "segregate")
"""The steps that publish tables."""


def make_data_section(found: PipelineResult) -> Section:
    blocks: list[Block] = [make_fact_table("Data set", list_data_facts(found))]
    if tables := [row for step in TABLE_STEPS for row in _make_table_rows(found, step)]:
        blocks.append(Table("Tables on their way", ["table", "published by", "rows", "sha256"], tables))
    if said := found.tag("segregate", SUMMARY):
        blocks.append(Text(f"The split: {said}.", QUIET))
    return Section("data", "Data and data checks", [*blocks, *make_check_blocks(found), *_make_column_blocks(found)])


def list_data_facts(found: PipelineResult) -> list[tuple[str, str | Cell]]:
    settings = get_data_settings(found)
    name = settings.get("name") or found.tag("download", DATA_SET)
    return [
        ("data set", str(DataSet(name, bool(settings.get("synthetic")))) if name else ""),
        ("what it is", get_description(found)),
        ("source", Cell(found.tag("download", "source_url") or str(settings.get("file_url") or ""), CODE)),
        ("sha256 of the source", Cell(found.tag("download", "sha256"), CODE)),
        ("licence", str(settings.get("licence") or NOT_STATED)),
        ("to fill in", list_unstated(found)),
    ]


def get_description(found: PipelineResult) -> str:
    """Return the data set's description, or that it has none: the placeholder of a draft does not count."""
    text = str(get_data_settings(found).get("description") or found.tag("download", "data_description"))
    return NOT_STATED if not text or text.startswith(DRAFT_DESCRIPTION) else text


def list_unstated(found: PipelineResult) -> str:
    """Return which descriptions for people the data set lacks."""
    settings = get_data_settings(found)
    columns = settings.get("columns") or {}
    silent = sum(not column.get("meaning") for column in columns.values())
    gaps = ["description"] if get_description(found) == NOT_STATED else []
    gaps += [key for key in ("licence", "limits") if not settings.get(key)] if columns else []
    return ", ".join([*gaps, *([f"the meaning of {pluralize(silent, 'column')}"] if silent else [])])


def get_data_settings(found: PipelineResult) -> dict[str, Any]:
    return found.config.get("data") or {}


def _make_table_rows(found: PipelineResult, step: str) -> list[list[Cell]]:
    """One row for each table that a step has published, with its rows and its digest."""
    run = found.runs.get(step)
    if run is None:
        return []
    rows = []
    for name in reversed(list_published(run)):
        stem, _, ending = name.rsplit("/", 1)[-1].rpartition(".")
        if ending in ("csv", "parquet"):
            digest = Cell(run.data.tags[OUTPUT + name][:DIGEST_CHARACTERS], CODE)
            rows.append(make_cells(Cell(name, CODE), step, format_count(found.metric(step, f"rows.{stem}")), digest))
    return rows


def make_check_blocks(found: PipelineResult) -> list[Block]:
    """The results of the data checks: failed ones first, skipped ones by their reason."""
    if not found.checks:
        missing = f"What the data checks found cannot be shown: {CHECKS} is not there."
        if "check_data" not in found.runs:
            missing = "The step check_data has not run: nothing is known of whether the data are as described."
        return [Text(missing, WARN)]
    outcomes = Counter(row["outcome"] for row in found.checks)
    said = ", ".join(f"{outcomes[name]} {name}" for name in ("passed", "failed", "skipped") if outcomes[name])
    blocks: list[Block] = [Text(f"Data checks: {said}.", BAD if outcomes["failed"] else GOOD)]
    if outcomes["failed"]:
        rows = [
            make_cells(Cell(row["check"], CODE), row["detail"]) for row in found.checks if row["outcome"] == "failed"
        ]
        blocks.append(Table("Failed data checks", ["check", "what was found"], rows))
    skipped = Counter(row["detail"] for row in found.checks if row["outcome"] == "skipped")
    blocks += [Text(f"{number} skipped: {reason or 'no reason given'}.", QUIET) for reason, number in skipped.items()]
    return [*blocks, *_make_distance_blocks(found)]


def _make_distance_blocks(found: PipelineResult) -> list[Block]:
    """The Kolmogorov-Smirnov tests against the reference, as check_data sorts them: the largest distance first."""
    if not found.ks:
        return []
    rows = []
    for test in found.ks:
        statistic, p_value, alpha = (float(test[name] or "nan") for name in ("statistic", "p_value", "alpha"))
        outcome = Cell("differs", BAD) if p_value < alpha else Cell("alike", GOOD)
        rows.append(
            make_cells(Cell(test["column"], CODE), f"{statistic:.4f}", f"{p_value:.2e}", f"{alpha:.2e}", outcome)
        )
    headings = ["column", "KS distance", "p-value", "level", "outcome"]
    return [Table("Against the reference (Kolmogorov-Smirnov)", headings, rows, numbers=True, folded=True)]


def _make_column_blocks(found: PipelineResult) -> list[Block]:
    described = get_data_settings(found).get("columns") or {}
    rows = [_make_column_row(name, column) for name, column in described.items()]
    headings = ["column", "type", "role", "what may stand in it", "meaning"]
    return [Table("Columns", headings, rows, folded=True)] if rows else []


def _make_column_row(name: str, column: dict[str, Any]) -> list[Cell]:
    ends = (("from", "min"), ("to", "max"))
    limits = " ".join(f"{word} {column[key]:g}" for word, key in ends if column.get(key) is not None)
    allowed = ", ".join(map(str, column.get("values") or [])) or limits or "any"
    return make_cells(
        Cell(name, CODE),
        *(str(column.get(key, "")) for key in ("type", "role")),
        allowed,
        str(column.get("meaning", "")),
    )

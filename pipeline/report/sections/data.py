"""Data section: source, row counts by step, results of the data checks, and columns."""

from __future__ import annotations

import json
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
from pipeline.report.format import format_count
from pipeline.report.gather import CHECKS, PipelineResult
from stepkit.model.metric_table import format_metric
from stepkit.store.lineage import DATA_SET, OTHER_CLASSES, OUTPUT, SPLIT_DATES, SUMMARY, DataSet, list_published
from stepkit.words import pluralize

NOT_STATED = "not stated"
DRAFT_DESCRIPTION = "the table is, where it comes from"
"""Part of the placeholder that earlier versions of `describe` wrote as the description."""

DIGEST_CHARACTERS = len("sha256:") + 16
"""Length of a shortened digest."""

TABLE_STEPS = ("download", "preprocess", "segregate")
"""Steps that publish tables."""


def make_data_section(result: PipelineResult) -> Section:
    """Return the section about the data."""
    blocks: list[Block] = [make_fact_table("Data set", list_data_facts(result))]
    if tables := [row for step in TABLE_STEPS for row in _make_table_rows(result, step)]:
        blocks.append(Table("Published tables", ["table", "step", "rows", "sha256"], tables))
    if split := result.get_tag("segregate", SUMMARY):
        blocks.append(Text(f"Split: {split}.", QUIET))
    if parts := _make_part_rows(result):
        headings = ["part", "rows", "first date", "last date", "without a date"]
        blocks.append(Table("Dates of the parts (split by time)", headings, parts, numbers=True))
    blocks += [*make_check_blocks(result), *_make_leakage_blocks(result), *_make_column_blocks(result)]
    return Section("data", "Data and data checks", blocks)


def list_data_facts(result: PipelineResult) -> list[tuple[str, str | Cell]]:
    """Return names and values of the table "Data set"."""
    settings = get_data_settings(result)
    name = settings.get("name") or result.get_tag("download", DATA_SET)
    return [
        ("data set", str(DataSet(name, bool(settings.get("synthetic")))) if name else ""),
        ("description", get_description(result)),
        ("source", Cell(result.get_tag("download", "source_url") or str(settings.get("file_url") or ""), CODE)),
        ("sha256 of the source", Cell(result.get_tag("download", "sha256"), CODE)),
        *_list_target_facts(result),
        ("licence", str(settings.get("licence") or NOT_STATED)),
        ("missing in the description", list_unstated(result)),
    ]


def _list_target_facts(result: PipelineResult) -> list[tuple[str, str | Cell]]:
    """Return the values of classes that are lists, the rows of other classes, and the rows without a date."""
    settings = get_data_settings(result)
    classes: list[tuple[str, str | Cell]] = [
        (f"class {number}", ", ".join(map(str, settings[key])))
        for key, number in (("positive", 1), ("negative", 0))
        if isinstance(settings.get(key), list)
    ]
    undated = result.get_metric("preprocess", "undated_rows")
    use = {"drop": "dropped", "train": "used for training"}.get(str(settings.get("undated")), "kept")
    return [
        *classes,
        ("left out, in neither class", result.get_tag("preprocess", OTHER_CLASSES)),
        ("rows without a date", f"{format_count(undated)} ({use})" if undated else ""),
    ]


def get_description(result: PipelineResult) -> str:
    """Return the description of the data set, or "not stated". The placeholder of a draft counts as missing."""
    text = str(get_data_settings(result).get("description") or result.get_tag("download", "data_description"))
    return NOT_STATED if not text or DRAFT_DESCRIPTION in text else text


def list_unstated(result: PipelineResult) -> str:
    """Return the missing texts of the data set description, or ""."""
    settings = get_data_settings(result)
    columns = settings.get("columns") or {}
    undescribed = sum(not column.get("meaning") for column in columns.values())
    gaps = ["description"] if get_description(result) == NOT_STATED else []
    gaps += [key for key in ("licence", "limits") if not settings.get(key)] if columns else []
    return ", ".join([*gaps, *([f"the meaning of {pluralize(undescribed, 'column')}"] if undescribed else [])])


def get_data_settings(result: PipelineResult) -> dict[str, Any]:
    """Return the part `data` of the configuration."""
    return result.config.get("data") or {}


def _make_table_rows(result: PipelineResult, step: str) -> list[list[Cell]]:
    """Return a row for each table that a step published."""
    run = result.runs.get(step)
    if run is None:
        return []
    rows = []
    for name in reversed(list_published(run)):
        stem, _, ending = name.rsplit("/", 1)[-1].rpartition(".")
        if ending in ("csv", "parquet"):
            digest = Cell(run.data.tags[OUTPUT + name][:DIGEST_CHARACTERS], CODE)
            rows.append(
                make_cells(Cell(name, CODE), step, format_count(result.get_metric(step, f"rows.{stem}")), digest)
            )
    return rows


def _make_part_rows(result: PipelineResult) -> list[list[Cell]]:
    """Return a row for each part of a split by time, oldest first."""
    parts: dict[str, dict[str, Any]] = {}
    for step in result.runs:
        parts |= json.loads(result.get_tag(step, SPLIT_DATES) or "{}")
    names = ("training", "validation") if "training" in parts else ("training and validation",)
    return [
        make_cells(
            name,
            format_count(parts[name]["rows"]),
            *(str(parts[name][key] or "") for key in ("first", "last")),
            format_count(parts[name]["undated"]),
        )
        for name in (*names, "test")
        if name in parts
    ]


def make_check_blocks(result: PipelineResult) -> list[Block]:
    """Return the results of the data checks: failed checks first, skipped checks by reason."""
    if not result.checks:
        missing = f"Data checks: unknown, because {CHECKS} is missing."
        if "check_data" not in result.runs:
            missing = "Data checks: unknown, because the step check_data has not run."
        return [Text(missing, WARN)]
    outcomes = Counter(row["outcome"] for row in result.checks)
    counts = ", ".join(f"{outcomes[name]} {name}" for name in ("passed", "failed", "skipped") if outcomes[name])
    blocks: list[Block] = [Text(f"Data checks: {counts}.", BAD if outcomes["failed"] else GOOD)]
    if outcomes["failed"]:
        rows = [
            make_cells(Cell(row["check"], CODE), row["detail"]) for row in result.checks if row["outcome"] == "failed"
        ]
        blocks.append(Table("Failed data checks", ["check", "problem"], rows))
    skipped = Counter(row["detail"] for row in result.checks if row["outcome"] == "skipped")
    blocks += [Text(f"Skipped ({number}): {reason or 'no reason given'}.", QUIET) for reason, number in skipped.items()]
    return [*blocks, *_make_distance_blocks(result)]


def _make_distance_blocks(result: PipelineResult) -> list[Block]:
    """Return the Kolmogorov-Smirnov tests against the reference, in the order of check_data: largest distance first."""
    if not result.ks:
        return []
    rows = []
    for test in result.ks:
        statistic, p_value, alpha = (float(test[name] or "nan") for name in ("statistic", "p_value", "alpha"))
        outcome = Cell("differs", BAD) if p_value < alpha else Cell("similar", GOOD)
        rows.append(
            make_cells(Cell(test["column"], CODE), f"{statistic:.4f}", f"{p_value:.2e}", f"{alpha:.2e}", outcome)
        )
    headings = ["column", "KS distance", "p-value", "level", "outcome"]
    return [
        Table("Comparison with the reference data (Kolmogorov-Smirnov test)", headings, rows, numbers=True, folded=True)
    ]


def _make_leakage_blocks(result: PipelineResult) -> list[Block]:
    """Return the columns that alone rank the rows suspiciously well."""
    if not result.leakage:
        return []
    rows = [
        make_cells(
            Cell(row["column"], CODE),
            format_metric(float(row["auc"])),
            Cell("checked", GOOD) if row["checked"] == "True" else Cell("not checked", BAD),
        )
        for row in result.leakage
    ]
    text = (
        f"Possible leakage: {pluralize(len(rows), 'column')} alone rank the rows almost perfectly. In data/*.yaml, "
        "remove a column whose value is unknown at the time of a prediction, or list it in leakage_checked."
    )
    table = Table("Columns with possible leakage", ["column", "ROC AUC alone", "leakage_checked"], rows)
    return [Text(text, WARN), table]


def _make_column_blocks(result: PipelineResult) -> list[Block]:
    columns = get_data_settings(result).get("columns") or {}
    rows = [_make_column_row(name, column) for name, column in columns.items()]
    headings = ["column", "type", "role", "allowed values", "meaning"]
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

"""The data: their source, the rows that each step kept, the results of the data checks, the meaning of the columns."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pipeline.report.blocks import BAD, CODE, GOOD, QUIET, WARN, Block, Cell, Section, Table, Text, cells, facts
from pipeline.report.format import count, plural
from pipeline.report.gather import CHECKS, Found
from stepkit.store.lineage import DATA_SET, OUTPUT, SUMMARY, DataSet, published_by

NOT_STATED = "not stated"
DRAFTED = "what the table is, where it comes from"
"""Beginning of the placeholder that earlier drafts of `describe` have as their description."""

BEGINNING = len("sha256:") + 16
"""Characters of a digest that are enough to tell two apart."""

TABLES = ("download", "preprocess", "segregate")
"""The steps that publish tables."""


def data_section(found: Found) -> Section:
    blocks: list[Block] = [facts("Data set", data_facts(found))]
    if tables := [row for step in TABLES for row in _table_rows(found, step)]:
        blocks.append(Table("Tables on their way", ["table", "published by", "rows", "sha256"], tables))
    if said := found.tag("segregate", SUMMARY):
        blocks.append(Text(f"The split: {said}.", QUIET))
    return Section("data", "Data and data checks", [*blocks, *checks(found), *_columns(found)])


def data_facts(found: Found) -> list[tuple[str, str | Cell]]:
    settings = data_settings(found)
    name = settings.get("name") or found.tag("download", DATA_SET)
    return [
        ("data set", str(DataSet(name, bool(settings.get("synthetic")))) if name else ""),
        ("what it is", description_of(found)),
        ("source", Cell(found.tag("download", "source_url") or str(settings.get("file_url") or ""), CODE)),
        ("sha256 of the source", Cell(found.tag("download", "sha256"), CODE)),
        ("licence", str(settings.get("licence") or NOT_STATED)),
        ("to fill in", unstated(found)),
    ]


def description_of(found: Found) -> str:
    """Return the data set's description, or that it has none: the placeholder of a draft does not count."""
    text = str(data_settings(found).get("description") or found.tag("download", "data_description"))
    return NOT_STATED if not text or text.startswith(DRAFTED) else text


def unstated(found: Found) -> str:
    """Return which descriptions for people the data set lacks."""
    settings = data_settings(found)
    columns = settings.get("columns") or {}
    silent = sum(not column.get("meaning") for column in columns.values())
    gaps = ["description"] if description_of(found) == NOT_STATED else []
    gaps += [key for key in ("licence", "limits") if not settings.get(key)] if columns else []
    return ", ".join([*gaps, *([f"the meaning of {plural(silent, 'column')}"] if silent else [])])


def data_settings(found: Found) -> dict[str, Any]:
    return found.config.get("data") or {}


def _table_rows(found: Found, step: str) -> list[list[Cell]]:
    """One row for each table that a step has published, with its rows and its digest."""
    run = found.runs.get(step)
    if run is None:
        return []
    rows = []
    for name in reversed(published_by(run)):
        stem, _, ending = name.rsplit("/", 1)[-1].rpartition(".")
        if ending in ("csv", "parquet"):
            digest = Cell(run.data.tags[OUTPUT + name][:BEGINNING], CODE)
            rows.append(cells(Cell(name, CODE), step, count(found.metric(step, f"rows.{stem}")), digest))
    return rows


def checks(found: Found) -> list[Block]:
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
        rows = [cells(Cell(row["check"], CODE), row["detail"]) for row in found.checks if row["outcome"] == "failed"]
        blocks.append(Table("Failed data checks", ["check", "what was found"], rows))
    skipped = Counter(row["detail"] for row in found.checks if row["outcome"] == "skipped")
    blocks += [Text(f"{number} skipped: {reason or 'no reason given'}.", QUIET) for reason, number in skipped.items()]
    return [*blocks, *_distances(found)]


def _distances(found: Found) -> list[Block]:
    """The Kolmogorov-Smirnov tests against the reference, as check_data sorts them: the largest distance first."""
    if not found.ks:
        return []
    rows = []
    for test in found.ks:
        statistic, p_value, alpha = (float(test[name] or "nan") for name in ("statistic", "p_value", "alpha"))
        outcome = Cell("differs", BAD) if p_value < alpha else Cell("alike", GOOD)
        rows.append(cells(Cell(test["column"], CODE), f"{statistic:.4f}", f"{p_value:.2e}", f"{alpha:.2e}", outcome))
    headings = ["column", "KS distance", "p-value", "level", "outcome"]
    return [Table("Against the reference (Kolmogorov-Smirnov)", headings, rows, numbers=True, folded=True)]


def _columns(found: Found) -> list[Block]:
    described = data_settings(found).get("columns") or {}
    rows = [_column_row(name, column) for name, column in described.items()]
    headings = ["column", "type", "role", "what may stand in it", "meaning"]
    return [Table("Columns", headings, rows, folded=True)] if rows else []


def _column_row(name: str, column: dict[str, Any]) -> list[Cell]:
    ends = (("from", "min"), ("to", "max"))
    limits = " ".join(f"{word} {column[key]:g}" for word, key in ends if column.get(key) is not None)
    allowed = ", ".join(map(str, column.get("values") or [])) or limits or "any"
    return cells(
        Cell(name, CODE),
        *(str(column.get(key, "")) for key in ("type", "role")),
        allowed,
        str(column.get("meaning", "")),
    )

"""The data: where they are from, how many rows each step kept, what the data checks found, what the columns mean."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pipeline.report.blocks import BAD, CODE, GOOD, QUIET, WARN, Block, Cell, Section, Table, Text, cells, facts
from pipeline.report.format import count, digest, plural
from pipeline.report.gather import CHECKS, Found
from stepkit.store.lineage import DATA_SET, OUTPUT, SUMMARY, DataSet, published_by

NOT_STATED = "not stated"
DRAFTED = "what the table is, where it comes from"
"""Beginning of the placeholder that earlier drafts of `describe` have as their description."""

TABLES = ("download", "preprocess", "segregate")
"""The steps that publish tables."""


def data_section(found: Found) -> Section:
    blocks: list[Block] = [facts("Data set", data_facts(found))]
    tables = [row for step in TABLES for row in _table_rows(found, step)]
    if tables:
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
        ("licence", settings.get("licence") or NOT_STATED),
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
    silent = [name for name, column in columns.items() if isinstance(column, dict) and not column.get("meaning")]
    gaps = ["description"] if description_of(found) == NOT_STATED else []
    gaps += [key for key in ("licence", "limits") if not settings.get(key)] if columns else []
    return ", ".join([*gaps, *([f"the meaning of {plural(len(silent), 'column')}"] if silent else [])])


def data_settings(found: Found) -> dict[str, Any]:
    settings = found.config.get("data")
    return settings if isinstance(settings, dict) else {}


def _table_rows(found: Found, step: str) -> list[list[Cell]]:
    """One row for each table that a step has published, with its rows and its digest."""
    run = found.step_run(step)
    if run is None:
        return []
    tables = [name for name in published_by(run) if name.endswith((".csv", ".parquet"))]
    return [
        cells(
            Cell(name, CODE), step, count(_rows_of(found, step, name)), Cell(digest(run.data.tags[OUTPUT + name]), CODE)
        )
        for name in reversed(tables)
    ]


def _rows_of(found: Found, step: str, name: str) -> float | None:
    stem = name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    return found.metric(step, f"rows.{stem}")


def checks(found: Found) -> list[Block]:
    """What the data checks found: failed ones first, skipped ones by their reason."""
    if not found.checks:
        return [Text(_why_no_checks(found), WARN)]
    outcomes = Counter(row.get("outcome", "") for row in found.checks)
    failed = [row for row in found.checks if row.get("outcome") == "failed"]
    said = ", ".join(f"{outcomes[name]} {name}" for name in ("passed", "failed", "skipped") if outcomes[name])
    blocks: list[Block] = [Text(f"Data checks: {said}.", BAD if failed else GOOD)]
    if failed:
        rows = [cells(Cell(row.get("check", ""), CODE), row.get("detail", "")) for row in failed]
        blocks.append(Table("Failed data checks", ["check", "what was found"], rows))
    skipped = Counter(row.get("detail", "") for row in found.checks if row.get("outcome") == "skipped")
    blocks += [Text(f"{number} skipped: {reason or 'no reason given'}.", QUIET) for reason, number in skipped.items()]
    return [*blocks, *_distances(found)]


def _why_no_checks(found: Found) -> str:
    if "check_data" not in found.runs:
        return "The step check_data has not run: nothing is known of whether the data are as described."
    return f"What the data checks found cannot be shown: {CHECKS} is not there."


def _distances(found: Found) -> list[Block]:
    """The Kolmogorov-Smirnov tests against the reference, the largest distance first."""
    if not found.ks:
        return []
    ranked = sorted(found.ks, key=lambda row: -_float(row.get("statistic")))
    rows = [
        cells(
            Cell(row.get("column", ""), CODE),
            f"{_float(row.get('statistic')):.4f}",
            f"{_float(row.get('p_value')):.2e}",
            f"{_float(row.get('alpha')):.2e}",
            Cell("differs", BAD) if _float(row.get("p_value")) < _float(row.get("alpha")) else Cell("alike", GOOD),
        )
        for row in ranked
    ]
    headings = ["column", "KS distance", "p-value", "level", "outcome"]
    return [Table("Against the reference (Kolmogorov-Smirnov)", headings, rows, numbers=True, folded=True)]


def _float(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _columns(found: Found) -> list[Block]:
    described = data_settings(found).get("columns")
    if not isinstance(described, dict):
        return []
    rows = [_column_row(str(name), one) for name, one in described.items() if isinstance(one, dict)]
    return [Table("Columns", ["column", "type", "role", "what may stand in it", "meaning"], rows, folded=True)]


def _column_row(name: str, column: dict[str, Any]) -> list[Cell]:
    limits = [f"from {column['min']:g}" if column.get("min") is not None else ""]
    limits.append(f"to {column['max']:g}" if column.get("max") is not None else "")
    allowed = ", ".join(map(str, column.get("values") or [])) or " ".join(filter(None, limits)) or "any"
    return cells(
        Cell(name, CODE),
        str(column.get("type", "")),
        str(column.get("role", "")),
        allowed,
        str(column.get("meaning", "")),
    )

"""The gate, rule by rule."""

from __future__ import annotations

from pipeline.report.blocks import BAD, CODE, GOOD, WARN, Cell, Section, Table, Text, cells
from pipeline.report.format import plural
from pipeline.report.gather import Found
from pipeline.report.sections.metrics import plain
from stepkit.settings.evaluate import AS_GOOD


def gate_section(found: Found) -> Section:
    if found.verdict is None:
        if "evaluate" not in found.runs:
            return Section("gate", "The gate")
        return Section("gate", "The gate", [Text("The verdict cannot be shown: verdict.json is not there.", WARN)])
    rules = found.verdict.rules
    failed = [rule.name for rule in rules if not rule.passed]
    said = f"Not passed: {', '.join(failed)}." if failed else f"{plural(len(rules), 'rule')} looked at, none failed."
    if not rules:
        said = "The verdict names no rules."
    kind = GOOD if found.verdict.passed and not failed else WARN if found.verdict.outcome == AS_GOOD else BAD
    rows = [
        cells(
            Cell(rule.name, CODE),
            Cell("passed", GOOD) if rule.passed else Cell("failed", BAD),
            plain(rule.value),
            plain(rule.threshold, missing="none"),
            rule.reason,
        )
        for rule in rules
    ]
    table = Table("Rules of the gate", ["rule", "outcome", "value", "threshold", "in words"], rows)
    return Section("gate", "The gate", [Text(said, kind), table])

"""The gate, rule by rule."""

from __future__ import annotations

from pipeline.report.blocks import BAD, CODE, GOOD, WARN, Cell, Section, Table, Text, make_cells
from pipeline.report.format import pluralize
from pipeline.report.gather import PipelineResult
from pipeline.report.sections.metrics import format_plain
from stepkit.settings.evaluate import AS_GOOD


def make_gate_section(result: PipelineResult) -> Section:
    verdict = result.verdict
    if verdict is None:
        missing = Text("The verdict cannot be shown: verdict.json is not there.", WARN)
        return Section("gate", "The gate", [missing] if "evaluate" in result.runs else [])
    failed = [rule.name for rule in verdict.rules if not rule.passed]
    said = f"{pluralize(len(verdict.rules), 'rule')} looked at, none failed."
    if failed:
        said = f"Not passed: {', '.join(failed)}."
    kind = GOOD if verdict.passed else WARN if verdict.outcome == AS_GOOD else BAD
    rows = [
        make_cells(
            Cell(rule.name, CODE),
            Cell("passed", GOOD) if rule.passed else Cell("failed", BAD),
            format_plain(rule.value),
            format_plain(rule.threshold, missing="none"),
            rule.reason,
        )
        for rule in verdict.rules
    ]
    table = Table("Rules of the gate", ["rule", "outcome", "value", "threshold", "in words"], rows)
    return Section("gate", "The gate", [Text(said, kind), table])

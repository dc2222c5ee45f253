"""Section on the gate: its verdict, and the outcome of each rule."""

from __future__ import annotations

from pipeline.report.blocks import BAD, CODE, GOOD, WARN, Block, Cell, Section, Table, Text, make_cells
from pipeline.report.gather import PipelineResult
from pipeline.report.sections.metrics import format_plain
from stepkit.settings.evaluate import AS_GOOD
from stepkit.words import pluralize


def make_gate_section(result: PipelineResult) -> Section:
    """Return the verdict with its rules, or a note that the verdict is missing."""
    verdict = result.verdict
    if verdict is None:
        missing = Text("Verdict: unknown, because verdict.json is missing.", WARN)
        return Section("gate", "Gate", [missing] if "evaluate" in result.runs else [])
    failed = [rule.name for rule in verdict.rules if not rule.passed]
    summary = f"{pluralize(len(verdict.rules), 'rule')} checked, none failed."
    if failed:
        summary = f"Failed: {', '.join(failed)}."
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
    table = Table("Rules of the gate", ["rule", "outcome", "value", "threshold", "reason"], rows)
    blocks: list[Block] = [Text(summary, kind), table]
    if verdict.champion_failed:
        reasons = "; ".join(f"{rule.name} ({rule.reason})" for rule in verdict.champion_failed)
        blocks.append(Text(f"The champion that the model was compared with fails: {reasons}.", WARN))
    return Section("gate", "Gate", blocks)

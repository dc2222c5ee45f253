"""The README of drift/ quotes the figures of the benchmark."""

from __future__ import annotations

from benchmarks import drift
from stepkit.paths import ROOT


def read_figures(file: str, rows: int) -> list[list[str]]:
    """What changed, windows and alarms: the first cells of the last so many rows of tables."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    tabled = [line.strip("| ").split(" | ")[:3] for line in lines if "%) |" in line]
    return tabled[-rows:]


def test_the_figures_of_the_benchmark_are_those_that_the_readme_quotes() -> None:
    measured = read_figures("benchmarks/drift.md", len(drift.COUNTS))
    assert [int(row[1]) for row in measured] == list(drift.COUNTS.values())
    assert read_figures("docs/monitor.md", len(drift.COUNTS)) == measured

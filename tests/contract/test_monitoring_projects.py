"""The page of the benchmark of drift has a row for each case that the benchmark measures."""

from __future__ import annotations

from benchmarks import drift
from stepkit.paths import ROOT


def test_the_page_of_the_benchmark_has_the_number_of_windows_of_each_case() -> None:
    lines = (ROOT / "benchmarks" / "drift.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if "%) |" in line]
    assert [int(row[1]) for row in rows[-len(drift.COUNTS) :]] == list(drift.COUNTS.values())

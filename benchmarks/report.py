"""What the benchmarks found, against what was wanted: as a table for a terminal, as Markdown, as JSON."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ("what", "first side", "second side", "first / second: median (min to max)", "goal", "met")

Pairs = list[tuple[float, float]]
"""The figures (seconds, if not told otherwise) of the first and of the second side, once for each repetition."""


@dataclass(frozen=True)
class Goal:
    """A ratio of two figures that shall be at least or at most `target`; None: it is shown only."""

    key: str
    what: str
    sides: tuple[str, str]
    target: float | None
    at_least: bool = False
    unit: str = "s"

    def shown(self, figure: float) -> str:
        return f"{figure:,.0f} {self.unit}" if figure >= 1000 else f"{figure:.2f} {self.unit}"

    @property
    def wanted(self) -> str:
        return "" if self.target is None else f"{'at least' if self.at_least else 'at most'} {self.target:g}"

    def is_met(self, ratio: float) -> bool:
        if self.target is None:
            return True
        return ratio >= self.target if self.at_least else ratio <= self.target


@dataclass(frozen=True)
class Result:
    """What was found for a goal."""

    goal: Goal
    pairs: Pairs
    note: str = ""

    @property
    def ratios(self) -> list[float]:
        return [first / second for first, second in self.pairs]

    @property
    def ratio(self) -> float:
        return median(self.ratios)

    @property
    def is_met(self) -> bool:
        return self.goal.is_met(self.ratio)

    @property
    def cells(self) -> list[str]:
        """The goal, both sides with their figures, the ratio with its range, the target, and whether it is met."""
        sides = [
            f"{name}: {self.goal.shown(median(figures))}"
            for name, figures in zip(self.goal.sides, zip(*self.pairs, strict=True), strict=True)
        ]
        spread = f" ({min(self.ratios):.2f} to {max(self.ratios):.2f})" if len(self.pairs) > 1 else ""
        met = "" if self.goal.target is None else "yes" if self.is_met else "no"
        what = f"{self.goal.what}; {self.note}" if self.note else self.goal.what
        return [what, *sides, f"{self.ratio:.2f}{spread}", self.goal.wanted, met]

    def as_dict(self) -> dict[str, object]:
        figures = {"ratio": self.ratio, "ratio_min": min(self.ratios), "ratio_max": max(self.ratios)}
        return {**asdict(self.goal), "note": self.note, **figures, "met": self.is_met, "figures": self.pairs}


def machine() -> dict[str, object]:
    """What the figures depend on beside the code."""
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def commit() -> str:
    """Return the commit that is measured, marked if the tree differs from it; "unknown" outside of git."""
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip() or "unknown"


def footnote(found: dict[str, object], about: str, repeat: int) -> str:
    """Say under which circumstances the figures were found."""
    return (
        f"Medians of {repeat} (ten times the rows: of 1), on {about}. {found['cores']} cores, Python "
        f"{found['python']}, load {found['load_before']} before; {found['date']}, commit {found['commit']}."
    )


def as_markdown(results: list[Result], note: str) -> str:
    rows = [list(COLUMNS), ["---"] * len(COLUMNS), *(result.cells for result in results)]
    return "\n".join(["| " + " | ".join(row) + " |" for row in rows]) + f"\n\n{note}\n"


def as_table(results: list[Result], note: str) -> Table:
    table = Table(*COLUMNS, caption=note, caption_justify="left")
    for result in results:
        table.add_row(*result.cells)
    return table

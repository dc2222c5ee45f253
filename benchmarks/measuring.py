"""measuring: goals, alternating measurements of two sides, cost of a command, temporary stores, table of results."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Generic, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Run
from rich.console import Console
from rich.table import Table

from stepkit.paths import ROOT
from stepkit.step.flags import make_positive_parser

EXPERIMENT = "speed"
COLUMNS = ("what", "first side", "second side", "first / second: median (min to max)", "goal", "met")
MEASURE = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
status = subprocess.run(sys.argv[2:], stdout=sys.stderr).returncode
took = time.perf_counter() - began
with open(sys.argv[1], "w") as file:
    json.dump([took, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss], file)
sys.exit(status)
"""
"""Program that runs a command and writes its seconds, and the peak in KB of the largest of the command's processes. It
runs in a small process of its own, because a child's peak starts at the size of its parent process."""

console = Console(width=None if sys.stdout.isatty() else 160)

T = TypeVar("T")
Side = Callable[[T], float]


class MeasurementFailed(SystemExit):
    """Failure of a measured command, or a difference between two sides that should agree: the goal has no result."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"measurement failed: {problem}")


@dataclass(frozen=True)
class Goal:
    """Ratio of two figures that should be at least or at most `target`; None for a ratio without a goal."""

    key: str
    title: str
    sides: tuple[str, str]
    target: float | None
    at_least: bool = False
    unit: str = "s"

    def format_figure(self, figure: float) -> str:
        """Return a figure with its unit."""
        return f"{figure:,.0f} {self.unit}" if figure >= 1000 else f"{figure:.2f} {self.unit}"

    def is_met(self, ratio: float) -> bool:
        """Return True if the ratio reaches the target, or if the goal has none."""
        if self.target is None:
            return True
        return ratio >= self.target if self.at_least else ratio <= self.target


@dataclass(frozen=True)
class Result:
    """Figures of both sides of a goal, one pair for each repetition."""

    goal: Goal
    pairs: list[tuple[float, float]]

    @property
    def ratios(self) -> list[float]:
        """First figure divided by the second, for each repetition."""
        return [first / second for first, second in self.pairs]

    @property
    def cells(self) -> list[str]:
        """Cells of the table: goal, both sides with figures, ratio with range, target, and yes or no."""
        goal, ratio = self.goal, median(self.ratios)
        figures = [goal.format_figure(median(side)) for side in zip(*self.pairs, strict=True)]
        sides = [f"{name}: {figure}" for name, figure in zip(goal.sides, figures, strict=True)]
        spread = f" ({min(self.ratios):.2f} to {max(self.ratios):.2f})" if len(self.pairs) > 1 else ""
        judged = ["", ""]
        if goal.target is not None:
            judged = [
                f"at {'least' if goal.at_least else 'most'} {goal.target:g}",
                "yes" if goal.is_met(ratio) else "no",
            ]
        return [goal.title, *sides, f"{ratio:.2f}{spread}", *judged]


@dataclass(frozen=True)
class Comparison(Generic[T]):
    """Goal with the functions that measure its two sides."""

    goal: Goal
    first: Side[T]
    second: Side[T]


def take_turns(bench: T, comparison: Comparison[T], repeat: int) -> Result:
    """Measure both sides `repeat` times, with alternating order."""
    goal = comparison.goal
    console.print(f"{goal.key}: {goal.title}: {' / '.join(goal.sides)}", highlight=False)
    pairs = []
    for turn in range(repeat):
        if turn % 2:
            second = comparison.second(bench)
            first = comparison.first(bench)
        else:
            first = comparison.first(bench)
            second = comparison.second(bench)
        pairs.append((first, second))
        console.print(
            f"  {goal.format_figure(first)} / {goal.format_figure(second)} = {first / second:.2f}", highlight=False
        )
    return Result(goal, pairs)


@dataclass(frozen=True)
class Cost:
    """Cost of a command: its time, and the peak memory of the largest process among the command and its children."""

    seconds: float
    peak_kb: float


def measure_cost(command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path) -> Cost:
    """Run a command in `folder`, with its output in `log`.

    Raises:
        MeasurementFailed: the status is not 0; the message contains the end of the output.
    """
    with tempfile.NamedTemporaryFile("r", prefix="cost-") as cost, log.open("wb") as output:
        measuring = [sys.executable, "-I", "-S", "-c", MEASURE, cost.name, *command]
        status = subprocess.run(measuring, cwd=folder, env=environment, stdout=output, stderr=output).returncode
        verify_success(command, status, log)
        return Cost(*json.load(cost))


def verify_success(command: Sequence[str], status: int, log: Path) -> None:
    """Raise MeasurementFailed if the status is not 0."""
    if status:
        output = log.read_text(errors="replace")[-2000:]
        raise MeasurementFailed(f"{' '.join(command)}: status {status}, expected 0. Its last output:\n{output}")


@dataclass(frozen=True)
class Store:
    """Tracking store with one experiment, and its artifacts, in a folder."""

    folder: Path

    @property
    def uri(self) -> str:
        """URI of the store."""
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def output(self) -> Path:
        """File with the output of the last command."""
        return self.folder / "output.txt"

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a shell with the activated environment, and those of the store."""
        dropped = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "PYTHONPATH")
        inherited = {name: value for name, value in os.environ.items() if name not in dropped}
        path = f"{Path(sys.executable).parent}{os.pathsep}{inherited.get('PATH', '')}"
        tracking = {"MLFLOW_TRACKING_URI": self.uri, "MLFLOW_EXPERIMENT_NAME": EXPERIMENT}
        return {**inherited, **tracking, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true", "ORT_DISABLE_TELEMETRY": "1"}

    def measure_cost(self, *command: str, **environment: str) -> Cost:
        """Run a command in the repository; raise MeasurementFailed if it fails."""
        return measure_cost(command, ROOT, {**self.environment, **environment}, self.output)

    def measure_seconds(self, *command: str, **environment: str) -> float:
        """Run a command in the repository and return its time; raise MeasurementFailed if it fails."""
        return self.measure_cost(*command, **environment).seconds

    def list_runs(self, condition: str) -> list[Run]:
        """Return the runs that match a filter such as "metrics.test_roc_auc > 0", in the order of their start."""
        client = MlflowClient(self.uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        assert experiment is not None, "created by open_fresh_store"
        return list(client.search_runs([experiment.experiment_id], condition, order_by=["attributes.start_time ASC"]))


@contextmanager
def open_fresh_store() -> Iterator[Store]:
    """Create a store in a temporary folder, which is deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="speed-") as folder:
        store = Store(Path(folder))
        MlflowClient(store.uri).create_experiment(EXPERIMENT, artifact_location=(store.folder / "artifacts").as_uri())
        yield store


def make_benchmark_parser(description: str | None, goals: Collection[str], output: str) -> argparse.ArgumentParser:
    """Return a parser with the flags of every benchmark; `goals` are the keys of its goals."""

    def parse_keys(text: str) -> list[str]:
        if unknown := set(text.split(",")) - {*goals}:
            raise argparse.ArgumentTypeError(f"no goal {', '.join(unknown)} (goals: {','.join(goals)})")
        return text.split(",")

    flags = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument(
        "--repeat", type=make_positive_parser(int), default=5, help="number of measurements of each side"
    )
    flags.add_argument("--only", type=parse_keys, default=[*goals], help="goals to measure, e.g. a,b")
    path = ROOT / "benchmarks" / output
    flags.add_argument("--output", type=Path, default=path, help="Markdown file for the table")
    return flags


def write_results(measured: Iterable[Result], output: Path, note: str) -> None:
    """Write the table to `output` after each result, and print it at the end."""
    rows: list[list[str]] = []
    for result in measured:
        rows.append(result.cells)
        output.write_text(format_markdown(rows, note), encoding="utf-8")
    table = Table(*COLUMNS, caption=note, caption_justify="left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def format_markdown(rows: list[list[str]], note: str) -> str:
    """Return the table and the note as Markdown."""
    lines = [f"| {' | '.join(row)} |" for row in ([*COLUMNS], ["---"] * len(COLUMNS), *rows)]
    return "\n".join([*lines, "", note, ""])


def describe_machine() -> str:
    """Return the machine, Python version, load, date and commit in words; "-dirty" marks uncommitted changes."""
    describe = ["git", "--no-optional-locks", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True).stdout.strip() or "unknown"
    return (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.2f} before; "
        f"{datetime.now(UTC).date()}, commit {commit}."
    )

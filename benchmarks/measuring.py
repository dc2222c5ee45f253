"""measuring: goals, two sides that take turns, the cost of a command, a store of its own, and the table of results."""

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
"""Runs a command; writes its seconds, and the peak in KB of the largest process among it and its children. In a process
of its own, a small one: the peak of a child begins with the size of the process that starts it."""

console = Console(width=None if sys.stdout.isatty() else 160)

T = TypeVar("T")
Side = Callable[[T], float]


class MeasurementFailed(SystemExit):
    """A measured command failed, or two sides that should agree do not: the measurement ends without a figure."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"measurement failed: {problem}")


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

    def is_met(self, ratio: float) -> bool:
        if self.target is None:
            return True
        return ratio >= self.target if self.at_least else ratio <= self.target


@dataclass(frozen=True)
class Result:
    """The figures of the first and of the second side of a goal, one pair for each repetition."""

    goal: Goal
    pairs: list[tuple[float, float]]

    @property
    def ratios(self) -> list[float]:
        return [first / second for first, second in self.pairs]

    @property
    def cells(self) -> list[str]:
        """The goal, both sides with their figures, the ratio with its range, the target, and whether it is met."""
        goal, ratio = self.goal, median(self.ratios)
        figures = [goal.shown(median(side)) for side in zip(*self.pairs, strict=True)]
        sides = [f"{name}: {figure}" for name, figure in zip(goal.sides, figures, strict=True)]
        spread = f" ({min(self.ratios):.2f} to {max(self.ratios):.2f})" if len(self.pairs) > 1 else ""
        judged = ["", ""]
        if goal.target is not None:
            judged = [
                f"at {'least' if goal.at_least else 'most'} {goal.target:g}",
                "yes" if goal.is_met(ratio) else "no",
            ]
        return [goal.what, *sides, f"{ratio:.2f}{spread}", *judged]


@dataclass(frozen=True)
class Comparison(Generic[T]):
    """A goal and how the figure of each of its sides is taken, of what is measured on."""

    goal: Goal
    first: Side[T]
    second: Side[T]


def take_turns(bench: T, one: Comparison[T], repeat: int) -> Result:
    """Measure both sides `repeat` times, each time the other one first."""
    console.print(f"{one.goal.key}: {one.goal.what}: {' / '.join(one.goal.sides)}", highlight=False)
    pairs = []
    for turn in range(repeat):
        if turn % 2:
            second = one.second(bench)
            first = one.first(bench)
        else:
            first = one.first(bench)
            second = one.second(bench)
        pairs.append((first, second))
        console.print(f"  {one.goal.shown(first)} / {one.goal.shown(second)} = {first / second:.2f}", highlight=False)
    return Result(one.goal, pairs)


@dataclass(frozen=True)
class Cost:
    """What a command took: its time, and the most memory of the largest process among it and its children."""

    seconds: float
    peak_kb: float


def measure_cost(command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path) -> Cost:
    """Run a command in `folder` to its end; its output goes to `log`.

    Raises:
        MeasurementFailed: it ended with another status than 0; the message holds its last words.
    """
    with tempfile.NamedTemporaryFile("r", prefix="cost-") as cost, log.open("wb") as output:
        measuring = [sys.executable, "-I", "-S", "-c", MEASURE, cost.name, *command]
        status = subprocess.run(measuring, cwd=folder, env=environment, stdout=output, stderr=output).returncode
        verify_success(command, status, log)
        return Cost(*json.load(cost))


def verify_success(command: Sequence[str], status: int, log: Path) -> None:
    """Raise MeasurementFailed unless the status is 0."""
    if status:
        last = log.read_text(errors="replace")[-2000:]
        raise MeasurementFailed(f"{' '.join(command)} ended with status {status}:\n{last}")


@dataclass(frozen=True)
class Store:
    """A tracking store with one experiment, whose artifacts are next to it."""

    folder: Path

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def output(self) -> Path:
        """Return the output of the last command."""
        return self.folder / "output.txt"

    @property
    def environment(self) -> dict[str, str]:
        """Return what a shell with the environment activated has, and where to track."""
        dropped = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "PYTHONPATH")
        kept = {name: value for name, value in os.environ.items() if name not in dropped}
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
        where = {"MLFLOW_TRACKING_URI": self.uri, "MLFLOW_EXPERIMENT_NAME": EXPERIMENT}
        return {**kept, **where, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true", "ORT_DISABLE_TELEMETRY": "1"}

    def cost(self, *command: str, **environment: str) -> Cost:
        """Run a command in the repository to its end; raises MeasurementFailed if it fails."""
        return measure_cost(command, ROOT, {**self.environment, **environment}, self.output)

    def seconds(self, *command: str, **environment: str) -> float:
        return self.cost(*command, **environment).seconds

    def runs(self, chosen: str) -> list[Run]:
        """Return the runs that a filter chooses, such as "metrics.test_roc_auc > 0", in the order of their start."""
        client = MlflowClient(self.uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        assert experiment is not None, "fresh_store has made it"
        return list(client.search_runs([experiment.experiment_id], chosen, order_by=["attributes.start_time ASC"]))


@contextmanager
def open_fresh_store() -> Iterator[Store]:
    with tempfile.TemporaryDirectory(prefix="speed-") as folder:
        store = Store(Path(folder))
        MlflowClient(store.uri).create_experiment(EXPERIMENT, artifact_location=(store.folder / "artifacts").as_uri())
        yield store


def make_benchmark_parser(description: str | None, known: Collection[str], output: str) -> argparse.ArgumentParser:
    """Return the flags that every comparison of goals has; `known` are the keys of its goals."""

    def keys(text: str) -> list[str]:
        if unknown := set(text.split(",")) - {*known}:
            raise argparse.ArgumentTypeError(f"no goal {', '.join(unknown)}; the goals are {','.join(known)}")
        return text.split(",")

    flags = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--repeat", type=make_positive_parser(int), default=5, help="how often each side is measured")
    flags.add_argument("--only", type=keys, default=[*known], help="the goals to measure, e.g. a,b")
    place = ROOT / "benchmarks" / output
    flags.add_argument("--output", type=Path, default=place, help="where the table goes")
    return flags


def write_results(measured: Iterable[Result], output: Path, note: str) -> None:
    """Write the table of the results to `output` after each of them, and print it at the end."""
    rows: list[list[str]] = []
    for result in measured:
        rows.append(result.cells)
        output.write_text(format_markdown(rows, note), encoding="utf-8")
    table = Table(*COLUMNS, caption=note, caption_justify="left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def format_markdown(rows: list[list[str]], note: str) -> str:
    lines = [f"| {' | '.join(row)} |" for row in ([*COLUMNS], ["---"] * len(COLUMNS), *rows)]
    return "\n".join([*lines, "", note, ""])


def describe_machine() -> str:
    """Return what the figures depend on besides the code, and the commit, marked if the tree differs from it."""
    describe = ["git", "--no-optional-locks", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True).stdout.strip() or "unknown"
    return (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.2f} before; "
        f"{datetime.now(UTC).date()}, commit {commit}."
    )

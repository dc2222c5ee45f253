"""measuring: what every measurement needs: a store of its own, commands by the clock, and two sides that take turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Run
from rich.console import Console

from benchmarks.report import Goal, Pairs, Result
from stepkit.paths import ROOT

EXPERIMENT = "speed"
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
of its own, a small one: what is started from this one begins with this one's height."""

console = Console(width=None if sys.stdout.isatty() else 160)


class MeasurementFailed(Exception):
    """A command that was measured ended badly, or two that should agree do not; there is no figure then."""


@dataclass(frozen=True)
class Cost:
    """What a command took: its time, and the most memory of the largest process among it and its children."""

    seconds: float
    peak_kb: float


def cost_of(command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path) -> Cost:
    """Run a command in `folder` to its end; its output goes to `log`.

    Raises:
        MeasurementFailed: it ended with another status than 0; the message holds its last words.
    """
    with tempfile.NamedTemporaryFile("r", prefix="cost-") as found, log.open("wb") as output:
        measuring = [sys.executable, "-I", "-S", "-c", MEASURE, found.name, *command]
        status = subprocess.run(measuring, cwd=folder, env=environment, stdout=output, stderr=output).returncode
        if status:
            last = log.read_text(errors="replace")[-2000:]
            raise MeasurementFailed(f"{' '.join(command)} ended with status {status}:\n{last}")
        return Cost(*json.load(found))


@dataclass(frozen=True)
class Store:
    """A tracking store with one experiment, whose artifacts lie beside it."""

    folder: Path

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def environment(self) -> dict[str, str]:
        """What a person has in a shell with the environment activated, and where to track."""
        dropped = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "PYTHONPATH")
        kept = {name: value for name, value in os.environ.items() if name not in dropped}
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
        where = {"MLFLOW_TRACKING_URI": self.uri, "MLFLOW_EXPERIMENT_NAME": EXPERIMENT}
        return {**kept, **where, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true", "ORT_DISABLE_TELEMETRY": "1"}

    def seconds(self, *command: str, **environment: str) -> float:
        """Run a command to its end; return its seconds.

        Raises:
            MeasurementFailed: it ended with another status than 0; the message holds its last lines.
        """
        log = self.folder / "output.txt"
        with log.open("wb") as output:
            env = {**self.environment, **environment}
            began = time.perf_counter()
            status = subprocess.run(command, cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT).returncode
            took = time.perf_counter() - began
        if status:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise MeasurementFailed(f"{' '.join(command)} ended with status {status}:\n{last}")
        return took

    def runs(self, chosen: str) -> list[Run]:
        """Return the runs of the experiment that a filter chooses, such as "metrics.test_roc_auc > 0"."""
        client = MlflowClient(self.uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        assert experiment is not None, "fresh_store has made it"
        return list(client.search_runs([experiment.experiment_id], chosen))

    def test_aucs(self) -> set[float]:
        """Return the test AUC of every pipeline in the store."""
        return {run.data.metrics["test_roc_auc"] for run in self.runs("metrics.test_roc_auc > 0")}

    def count_steps(self) -> int:
        """Return how many steps have run, reused ones not counted."""
        return len(self.runs("tags.step != ''"))


@contextmanager
def fresh_store() -> Iterator[Store]:
    with tempfile.TemporaryDirectory(prefix="speed-") as folder:
        store = Store(Path(folder))
        MlflowClient(store.uri).create_experiment(EXPERIMENT, artifact_location=(store.folder / "artifacts").as_uri())
        yield store


T = TypeVar("T")
Side = Callable[[T], float]


@dataclass(frozen=True)
class Comparison(Generic[T]):
    """A goal and how the figure of each of its sides is taken, of what is measured on."""

    goal: Goal
    first: Side[T]
    second: Side[T]


def take_turns(bench: T, one: Comparison[T], repeat: int) -> Result:
    """Measure both sides `repeat` times, each time the other one first."""
    console.print(f"{one.goal.key}: {one.goal.what}: {' / '.join(one.goal.sides)}", highlight=False)
    pairs: Pairs = []
    for turn in range(repeat):
        if turn % 2:
            other = one.second(bench)
            pairs.append((one.first(bench), other))
        else:
            pairs.append((one.first(bench), one.second(bench)))
        first, second = pairs[-1]
        console.print(f"  {one.goal.shown(first)} / {one.goal.shown(second)} = {first / second:.2f}", highlight=False)
    return Result(one.goal, pairs)

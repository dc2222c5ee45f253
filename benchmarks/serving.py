"""serving: the goals of serving, the scorer beside MLflow's own server -> a table and serving.md.

Wants a quiet machine and a quarter of an hour. A pipeline on the bundled sample trains the champion in a store of its
own; all servers of a goal stand on the same machine, on loopback, and the sides take turns under the same load. A
server that answers anything but 200, or other probabilities than the rest, ends the measurement.

Run from the repository root: PYTHONPATH=. python benchmarks/serving.py [--only a,b] [--repeat 5] [--seconds 5]
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.load import Load, drive_for, post
from benchmarks.measuring import Comparison, MeasurementFailed, console, cost_of, take_turns
from benchmarks.report import Goal, Result, as_markdown, as_table, machine
from benchmarks.servers import (
    CHAMPION,
    MANY_ROWS,
    NOT_INPUTS,
    PLAIN,
    SCORER,
    SCORER_BY_MAKE,
    SCORER_BY_PROJECT,
    SHADOWED,
    STOCK,
    UNLOGGED,
    Bench,
    prepared,
    started,
)
from simulate.clients import chunks
from stepkit.paths import ROOT
from stepkit.step.flags import positive

BATCH_ROWS = 1_000_000
KB_PER_GB = 1e6
BATCH_SIDES = ("`mlflow models predict`", "`mlflow run ./serve -e batch`")


@dataclass(frozen=True)
class Asked:
    """How many connections ask for the predictions of how many rows at a time."""

    connections: int
    rows: int = 1

    def __str__(self) -> str:
        rows = "1 row" if self.rows == 1 else f"{self.rows:,} rows"
        return f"{rows} a request, {self.connections} connection{'s' * (self.connections > 1)}"


@dataclass(frozen=True)
class Figure:
    """What is read off a load."""

    name: str
    unit: str
    of: Callable[[Load], float]


RATE = Figure("requests a second", "/s", lambda load: load.per_second)
ROW_RATE = Figure("rows a second", "/s", lambda load: load.per_second * MANY_ROWS)
MEDIAN = Figure("median latency", "ms", lambda load: load.median_ms)
P99 = Figure("p99 latency", "ms", lambda load: load.p99_ms)


def under_load(kind: str, asked: Asked, figure: Figure, bench: Bench) -> float:
    """Return a figure of a server that is kept busy.

    Raises:
        MeasurementFailed: an answer that is no 200, or a broken connection.
    """
    url = bench.url(kind)
    load = drive_for(bench.seconds, url, post(url, bench.request(asked.rows)), asked.connections)
    if not load.is_flawless:
        raise MeasurementFailed(f"{kind}: answers by status {dict(load.statuses)}, {load.lost} connections lost")
    return figure.of(load)


def loaded(
    key: str, figure: Figure, asked: Asked, kinds: tuple[str, str], target: float | None, at_least: bool = True
) -> Comparison[Bench]:
    goal = Goal(key, f"{figure.name}, {asked}", kinds, target, at_least, figure.unit)
    first, second = (partial(under_load, kind, asked, figure) for kind in kinds)
    return Comparison(goal, first, second)


def start_seconds(kind: str, bench: Bench) -> float:
    bench.stop_servers()
    with started(bench, kind) as (_, seconds):
        return seconds


def start(key: str, kinds: tuple[str, str], target: float | None) -> Comparison[Bench]:
    goal = Goal(key, "start to first answer", kinds, target, at_least=True)
    first, second = (partial(start_seconds, kind) for kind in kinds)
    return Comparison(goal, first, second)


COMPARISONS = (
    loaded("a", RATE, Asked(8), (SCORER, PLAIN), 60),
    loaded("b", RATE, Asked(8), (SCORER, STOCK), 8),
    loaded("c", MEDIAN, Asked(1), (PLAIN, SCORER), 14),
    loaded("d", P99, Asked(32), (PLAIN, SCORER), 20),
    loaded("e", ROW_RATE, Asked(8, MANY_ROWS), (SCORER, PLAIN), 3),
    loaded("f", MEDIAN, Asked(1), (SHADOWED, SCORER), 1.1, at_least=False),
    loaded("g", MEDIAN, Asked(1), (SCORER, UNLOGGED), None),
    loaded("h", RATE, Asked(8), (SCORER, UNLOGGED), None),
    loaded("i", RATE, Asked(32), (SCORER, UNLOGGED), None),
    start("j", (PLAIN, SCORER_BY_PROJECT), 3),
    start("k", (PLAIN, SCORER_BY_MAKE), 3),
)
"""What is measured of servers; l and m are the batch's."""

BATCH = (
    Goal("l", f"a CSV of {BATCH_ROWS:,} rows", BATCH_SIDES, 3, at_least=True),
    Goal("m", "the same, peak memory of the largest process", BATCH_SIDES, 4, at_least=True, unit="GB"),
)


def write_table(path: Path) -> None:
    """Write the rows of the batch as doubles, which `mlflow models predict` insists on for a CSV."""
    for number, part in enumerate(chunks(BATCH_ROWS, seed=7)):
        rows = part.drop(columns=NOT_INPUTS).astype(float)
        rows.to_csv(path, mode="a" if number else "w", header=not number, index=False)


def batch_cost(bench: Bench, kind: str, table: Path) -> tuple[float, float]:
    """Return the seconds and the GB that one side takes for the table."""
    output = bench.store.folder / f"answers-{time.time_ns()}.csv"
    command = {
        BATCH_SIDES[0]: ["mlflow", "models", "predict", "-m", CHAMPION, "--env-manager", "local", "-t", "csv",
                         "-i", str(table), "-o", str(output)],
        BATCH_SIDES[1]: ["mlflow", "run", "./serve", "-e", "batch", "--env-manager", "local",
                         "-P", f"input={table}", "-P", f"output={output}"],
    }[kind]  # fmt: skip
    log = bench.store.folder / "batch.txt"
    cost = cost_of(command, ROOT, bench.store.environment, log)
    output.unlink()
    return cost.seconds, cost.peak_kb / KB_PER_GB


def measure_batch(bench: Bench, repeat: int) -> Iterator[Result]:
    """Run both sides in turns; each run gives a figure for both goals."""
    bench.stop_servers()
    table = bench.store.folder / "batch.csv"
    write_table(table)
    costs: dict[str, list[tuple[float, float]]] = {kind: [] for kind in BATCH_SIDES}
    for turn in range(repeat):
        for kind in BATCH_SIDES if turn % 2 == 0 else BATCH_SIDES[::-1]:
            costs[kind].append(batch_cost(bench, kind, table))
            seconds, gb = costs[kind][-1]
            console.print(f"  {kind}: {seconds:.2f} s, {gb:.2f} GB", highlight=False)
    for place, goal in enumerate(BATCH):
        first, second = ([cost[place] for cost in costs[kind]] for kind in BATCH_SIDES)
        yield Result(goal, list(zip(first, second, strict=True)))


KEYS = sorted([*(one.goal.key for one in COMPARISONS), *(goal.key for goal in BATCH)])


def keys_of(text: str) -> list[str]:
    """Parse the keys of goals: "a,b".

    Raises:
        argparse.ArgumentTypeError: a key that no goal has.
    """
    keys = text.split(",")
    if unknown := [key for key in keys if key not in KEYS]:
        raise argparse.ArgumentTypeError(f"no goal {', '.join(unknown)}; the goals are {','.join(KEYS)}")
    return keys


def measure(bench: Bench, keys: list[str], repeat: int) -> Iterator[Result]:
    """Measure the goals of these keys; the batch last, when no server is there any more."""
    for one in COMPARISONS:
        if one.goal.key in keys:
            yield take_turns(bench, one, repeat)
    if {goal.key for goal in BATCH} & {*keys}:
        yield from measure_batch(bench, repeat)


def parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--repeat", type=positive(int), default=5, help="how often each side is measured")
    flags.add_argument("--seconds", type=positive(float), default=5.0, help="how long each load lasts")
    flags.add_argument("--only", type=keys_of, default=",".join(KEYS), help="the goals to measure")
    flags.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "serving.md", help="where the table goes")
    return flags


def footnote(repeat: int, seconds: float) -> str:
    found = machine()
    return (
        f"Medians of {repeat}, each load {seconds:g} s, client on the same machine; the forest as "
        f"trained on the bundled sample (100 trees, `n_jobs: -1`); log in SQLite, committed before each answer. "
        f"{found['cores']} cores, Python {found['python']}, "
        f"load {found['load_before']} before; {found['date']}, commit {found['commit']}."
    )


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    note = footnote(args.repeat, args.seconds)
    results: list[Result] = []
    with prepared(args.seconds) as bench:
        for result in measure(bench, args.only, args.repeat):
            results.append(result)
            args.output.write_text(as_markdown(results, note), encoding="utf-8")
    console.print(as_table(results, note))


if __name__ == "__main__":
    try:
        main()
    except MeasurementFailed as error:
        sys.exit(f"measurement failed: {error}")

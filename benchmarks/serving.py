"""serving: speed of the scorer compared with MLflow's own server -> a table and serving.md.

The measurement takes 15 minutes and needs an idle machine. A pipeline on the bundled sample trains the
champion in a temporary store. All servers of a goal run on this machine and are measured in turns under the same load.
A response with a status other than 200 ends the measurement, and so do probabilities that differ from the champion's.

Run from the repository root: PYTHONPATH=. python benchmarks/serving.py [--only a,b] [--repeat 5] [--seconds 5]
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from benchmarks.load import Load, build_post, drive_for
from benchmarks.measuring import (
    Comparison,
    Cost,
    Goal,
    MeasurementFailed,
    Result,
    describe_machine,
    make_benchmark_parser,
    take_turns,
    write_results,
)
from benchmarks.servers import (
    CHAMPION,
    MANY_ROWS,
    PLAIN,
    REASONED,
    SCORER,
    SCORER_BY_MAKE,
    SCORER_BY_PROJECT,
    SHADOWED,
    STOCK,
    UNLOGGED,
    Bench,
    prepare_bench,
    start_server,
)
from simulate.clients import iter_client_chunks
from simulate.figures import TARGET
from stepkit.step.flags import make_positive_parser

BATCH_ROWS = 1_000_000
KB_PER_GB = 1e6
BATCH_SIDES = ("`mlflow models predict`", "`mlflow run ./serve -e batch`")


@dataclass(frozen=True)
class Figure:
    """Figure that is computed from a load."""

    name: str
    unit: str
    read: Callable[[Load], float]


RATE = Figure("requests a second", "/s", lambda load: load.per_second)
ROW_RATE = Figure("rows a second", "/s", lambda load: load.per_second * MANY_ROWS)
MEDIAN = Figure("median latency", "ms", lambda load: load.median_ms)
P99 = Figure("p99 latency", "ms", lambda load: load.p99_ms)


def measure_under_load(kind: str, connections: int, rows: int, figure: Figure, bench: Bench) -> float:
    """Return a figure of a server under load.

    Raises:
        MeasurementFailed: a response has another status than 200, or a connection was lost.
    """
    url = bench.get_url(kind)
    load = drive_for(bench.seconds, url, build_post(url, bench.build_request(rows, kind)), connections)
    if not load.is_flawless:
        raise MeasurementFailed(
            f"{kind}: lost connections {load.lost}, responses by status {dict(load.statuses)} (expected only 200)"
        )
    return figure.read(load)


def make_load_comparison(
    key: str, figure: Figure, connections: int, kinds: tuple[str, str], target: float | None,
    at_least: bool = True, rows: int = 1,
) -> Comparison[Bench]:  # fmt: skip
    """Return the comparison of two kinds of servers under the same load."""
    load = f"{rows:,} row{'s' * (rows > 1)} a request, {connections} connection{'s' * (connections > 1)}"
    goal = Goal(key, f"{figure.name}, {load}", kinds, target, at_least, figure.unit)
    return Comparison(goal, *(partial(measure_under_load, kind, connections, rows, figure) for kind in kinds))


def measure_start(kind: str, bench: Bench) -> float:
    """Return the seconds from the start of a server to its first response."""
    bench.stop_servers()
    with start_server(bench, kind) as (_, seconds):
        return seconds


def make_start_comparison(key: str, kind: str) -> Comparison[Bench]:
    """Return the comparison of a server's start with the stock server's."""
    goal = Goal(key, "start to first response", (PLAIN, kind), 3, at_least=True)
    return Comparison(goal, partial(measure_start, PLAIN), partial(measure_start, kind))


COMPARISONS = (
    make_load_comparison("a", RATE, 8, (SCORER, PLAIN), 60),
    make_load_comparison("b", RATE, 8, (SCORER, STOCK), 8),
    make_load_comparison("c", MEDIAN, 1, (PLAIN, SCORER), 14),
    make_load_comparison("d", P99, 32, (PLAIN, SCORER), 20),
    make_load_comparison("e", ROW_RATE, 8, (SCORER, PLAIN), 3, rows=MANY_ROWS),
    make_load_comparison("f", MEDIAN, 1, (SHADOWED, SCORER), 1.1, at_least=False),
    make_load_comparison("g", MEDIAN, 1, (SCORER, UNLOGGED), None),
    make_load_comparison("h", RATE, 8, (SCORER, UNLOGGED), None),
    make_load_comparison("i", RATE, 32, (SCORER, UNLOGGED), None),
    make_start_comparison("j", SCORER_BY_PROJECT),
    make_start_comparison("k", SCORER_BY_MAKE),
    make_load_comparison("l", MEDIAN, 1, (REASONED, SCORER), 2.5, at_least=False),
    make_load_comparison("m", RATE, 8, (REASONED, SCORER), 0.2),
)
"""Comparisons of servers. Goals n and o are those of the batch."""

BATCH = (
    Goal("n", f"a CSV of {BATCH_ROWS:,} rows", BATCH_SIDES, 3, at_least=True),
    Goal("o", "the same, peak memory of the largest process", BATCH_SIDES, 4, at_least=True, unit="GB"),
)
KEYS = [*(comparison.goal.key for comparison in COMPARISONS), *(goal.key for goal in BATCH)]


def measure_batch(bench: Bench, repeat: int) -> Iterator[Result]:
    """Measure both sides in turns. Each run gives a figure for both goals."""
    bench.stop_servers()
    table, output = (bench.store.folder / name for name in ("batch.csv", "answers.csv"))
    for number, part in enumerate(iter_client_chunks(BATCH_ROWS, seed=7)):
        rows = part.drop(columns=["ID", TARGET]).astype(float)  # `mlflow models predict` rejects integers
        rows.to_csv(table, mode="a" if number else "w", header=not number, index=False)
    stock = ["mlflow", "models", "predict", "-m", CHAMPION, "-t", "csv", "-i", str(table), "-o", str(output)]
    batch = ["mlflow", "run", "./serve", "-e", "batch", "-P", f"input={table}", "-P", f"output={output}"]

    def measure_seconds(command: list[str], costs: list[Cost], bench: Bench) -> float:
        costs.append(bench.store.measure_cost(*command, "--env-manager", "local"))
        output.unlink()
        return costs[-1].seconds

    first, second = list[Cost](), list[Cost]()
    sides = partial(measure_seconds, stock, first), partial(measure_seconds, batch, second)
    yield take_turns(bench, Comparison(BATCH[0], *sides), repeat)
    peaks = [(left.peak_kb / KB_PER_GB, right.peak_kb / KB_PER_GB) for left, right in zip(first, second, strict=True)]
    yield Result(BATCH[1], peaks)


def measure(bench: Bench, keys: list[str], repeat: int) -> Iterator[Result]:
    """Measure the goals with these keys; the batch comes last, after the servers were stopped."""
    yield from (take_turns(bench, comparison, repeat) for comparison in COMPARISONS if comparison.goal.key in keys)
    if {goal.key for goal in BATCH} & {*keys}:
        yield from measure_batch(bench, repeat)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    flags = make_benchmark_parser(__doc__, KEYS, "serving.md")
    flags.add_argument(
        "--seconds", type=make_positive_parser(float), default=5.0, help="duration of each load in seconds"
    )
    args = flags.parse_args(argv)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    note = (
        f"Medians of {args.repeat}, each load {args.seconds:g} s, client on the same machine; forest trained "
        "on the bundled sample (100 trees, `n_jobs: -1`); log in SQLite, committed before each response. "
        f"{describe_machine()}"
    )
    with prepare_bench(args.seconds) as bench:
        write_results(measure(bench, args.only, args.repeat), args.output, note)


if __name__ == "__main__":
    main()

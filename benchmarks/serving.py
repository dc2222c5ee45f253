"""serving: the goals of serving, the scorer beside MLflow's own server -> a table and serving.md.

Wants a quiet machine and a quarter of an hour. A pipeline on the bundled sample trains the champion in a store of its
own; all servers of a goal run on the same machine, on loopback, and the sides take turns under the same load. A
server that answers anything but 200, or other probabilities than the rest, ends the measurement.

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
    """What is read off a load."""

    name: str
    unit: str
    of: Callable[[Load], float]


RATE = Figure("requests a second", "/s", lambda load: load.per_second)
ROW_RATE = Figure("rows a second", "/s", lambda load: load.per_second * MANY_ROWS)
MEDIAN = Figure("median latency", "ms", lambda load: load.median_ms)
P99 = Figure("p99 latency", "ms", lambda load: load.p99_ms)


def measure_under_load(kind: str, connections: int, rows: int, figure: Figure, bench: Bench) -> float:
    """Return a figure of a server that is kept busy.

    Raises:
        MeasurementFailed: an answer that is not a 200, or a broken connection.
    """
    url = bench.url(kind)
    load = drive_for(bench.seconds, url, build_post(url, bench.request(rows)), connections)
    if not load.is_flawless:
        raise MeasurementFailed(f"{kind}: answers by status {dict(load.statuses)}, {load.lost} connections lost")
    return figure.of(load)


def make_load_comparison(
    key: str, figure: Figure, connections: int, kinds: tuple[str, str], target: float | None,
    at_least: bool = True, rows: int = 1,
) -> Comparison[Bench]:  # fmt: skip
    asked = f"{rows:,} row{'s' * (rows > 1)} a request, {connections} connection{'s' * (connections > 1)}"
    goal = Goal(key, f"{figure.name}, {asked}", kinds, target, at_least, figure.unit)
    return Comparison(goal, *(partial(measure_under_load, kind, connections, rows, figure) for kind in kinds))


def measure_start(kind: str, bench: Bench) -> float:
    bench.stop_servers()
    with start_server(bench, kind) as (_, seconds):
        return seconds


def make_start_comparison(key: str, kind: str) -> Comparison[Bench]:
    goal = Goal(key, "start to first answer", (PLAIN, kind), 3, at_least=True)
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
)
"""What is measured of servers; l and m are the batch's."""

BATCH = (
    Goal("l", f"a CSV of {BATCH_ROWS:,} rows", BATCH_SIDES, 3, at_least=True),
    Goal("m", "the same, peak memory of the largest process", BATCH_SIDES, 4, at_least=True, unit="GB"),
)
KEYS = [*(one.goal.key for one in COMPARISONS), *(goal.key for goal in BATCH)]


def measure_batch(bench: Bench, repeat: int) -> Iterator[Result]:
    """Run both sides in turns; each run gives a figure for both goals."""
    bench.stop_servers()
    table, output = (bench.store.folder / name for name in ("batch.csv", "answers.csv"))
    for number, part in enumerate(iter_client_chunks(BATCH_ROWS, seed=7)):
        rows = part.drop(columns=["ID", TARGET]).astype(float)  # `mlflow models predict` insists on doubles
        rows.to_csv(table, mode="a" if number else "w", header=not number, index=False)
    stock = ["mlflow", "models", "predict", "-m", CHAMPION, "-t", "csv", "-i", str(table), "-o", str(output)]
    ours = ["mlflow", "run", "./serve", "-e", "batch", "-P", f"input={table}", "-P", f"output={output}"]

    def seconds(command: list[str], costs: list[Cost], bench: Bench) -> float:
        costs.append(bench.store.cost(*command, "--env-manager", "local"))
        output.unlink()
        return costs[-1].seconds

    first, second = list[Cost](), list[Cost]()
    sides = partial(seconds, stock, first), partial(seconds, ours, second)
    yield take_turns(bench, Comparison(BATCH[0], *sides), repeat)
    peaks = [(one.peak_kb / KB_PER_GB, other.peak_kb / KB_PER_GB) for one, other in zip(first, second, strict=True)]
    yield Result(BATCH[1], peaks)


def measure(bench: Bench, keys: list[str], repeat: int) -> Iterator[Result]:
    """Measure the goals of these keys; the batch last, after the servers have ended."""
    yield from (take_turns(bench, one, repeat) for one in COMPARISONS if one.goal.key in keys)
    if {goal.key for goal in BATCH} & {*keys}:
        yield from measure_batch(bench, repeat)


def main(argv: list[str] | None = None) -> None:
    flags = make_benchmark_parser(__doc__, KEYS, "serving.md")
    flags.add_argument("--seconds", type=make_positive_parser(float), default=5.0, help="how long each load lasts")
    args = flags.parse_args(argv)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    note = (
        f"Medians of {args.repeat}, each load {args.seconds:g} s, client on the same machine; the forest as "
        "trained on the bundled sample (100 trees, `n_jobs: -1`); log in SQLite, committed before each answer. "
        f"{describe_machine()}"
    )
    with prepare_bench(args.seconds) as bench:
        write_results(measure(bench, args.only, args.repeat), args.output, note)


if __name__ == "__main__":
    main()

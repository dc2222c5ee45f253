"""speed: the goals of speed, each measured on both of its sides -> a table and results.md.

Wants a quiet machine and half an hour. Every measurement has a tracking store and artifacts of its own, made before
the clock starts, in a temporary folder. The sides of a goal take turns, so that a machine that slows down slows both.

Run from the repository root: PYTHONPATH=. python benchmarks/speed.py [REAL_CSV] [--only a,b] [--repeat 5]
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from benchmarks import size
from benchmarks.measuring import (
    Comparison,
    Goal,
    MeasurementFailed,
    Result,
    Store,
    console,
    describe_machine,
    make_benchmark_parser,
    open_fresh_store,
    take_turns,
    write_results,
)
from stepkit.paths import ROOT

FOREST = "random_forest_pipeline.random_forest"
FIRST_POINT, FURTHER_POINTS = 90, (95, 100, 105)
"""Trees of the sweeps whose difference is the cost of a further point: with the first alone, and with all."""
SAME_AUC = 1e-9
"""Two rows of the test split in another order change the AUC by a hundred times that; sums of floats, by 1e-16."""

SMALL_ROWS, LARGE_ROWS = 300_000, 3_000_000
MOST_GROWTH = 12.0
NOT_JUDGED = ("random_forest", size.PIPELINE)
"""Steps whose growth is shown only: a forest's fit does not depend on how tables are handled."""


@dataclass
class Bench:
    """What is measured on: a table, its description, and the test AUC that all ways of training on it agree in."""

    table: Path
    dataset: str
    aucs: set[float] = field(default_factory=set)

    @property
    def options(self) -> list[str]:
        return [f"data={self.dataset}", f"data.file_url={self.table}"]

    def mlflow_run(self, store: Store, *options: str) -> float:
        """Return the seconds of `mlflow run .` with these options of Hydra's."""
        words = " ".join([*options, *self.options])
        return store.seconds("mlflow", "run", ".", "--env-manager", "local", "-P", f"hydra_options={words}")

    def python_main(self, store: Store, *options: str) -> float:
        return store.seconds(sys.executable, "main.py", *options, *self.options)

    def plain(self, store: Store, *arguments: str) -> float:
        description = str(ROOT / "data" / f"{self.dataset}.yaml")
        command = [sys.executable, "benchmarks/plain.py", str(self.table), description, str(store.folder / "plain")]
        return store.seconds(*command, *arguments, PYTHONPATH=str(ROOT))

    def expect_auc(self, *found: float) -> None:
        """Raise MeasurementFailed unless it is the AUC of all before: the work is the same."""
        self.aucs |= {*found}
        if max(self.aucs) - min(self.aucs) > SAME_AUC:
            raise MeasurementFailed(f"the two sides do not do the same work: test AUC {sorted(self.aucs)}")

    def expect_auc_in(self, store: Store) -> None:
        self.expect_auc(*(run.data.metrics["test_roc_auc"] for run in store.runs("metrics.test_roc_auc > 0")))


def measure_pipeline_by_mlflow(bench: Bench, *options: str) -> float:
    with open_fresh_store() as store:
        seconds = bench.mlflow_run(store, "main.reuse=false", *options)
        bench.expect_auc_in(store)
    return seconds


def measure_cold_pipeline(bench: Bench) -> float:
    return measure_pipeline_by_mlflow(bench, "main.launcher=subprocess")


def measure_pipeline_by_python(bench: Bench) -> float:
    with open_fresh_store() as store:
        seconds = bench.python_main(store, "main.reuse=false")
        bench.expect_auc_in(store)
    return seconds


def measure_plain_script(bench: Bench) -> float:
    with open_fresh_store() as store:
        seconds = bench.plain(store)
        bench.expect_auc(json.loads((store.folder / "plain" / "metrics.json").read_text())["test_roc_auc"])
    return seconds


def measure_second_pipeline(bench: Bench) -> float:
    """Measure the second of two pipelines between which nothing changed."""
    with open_fresh_store() as store:
        bench.mlflow_run(store)
        before = len(store.runs("tags.step != ''"))
        seconds = bench.mlflow_run(store)
        if len(store.runs("tags.step != ''")) != before:
            raise MeasurementFailed("the second of two equal pipelines has run steps again")
    return seconds


def measure_empty_project(_bench: Bench) -> float:
    with open_fresh_store() as store:
        return store.seconds("mlflow", "run", "benchmarks/empty", "--env-manager", "local")


def measure_further_point(bench: Bench) -> float:
    """Measure how much longer a sweep takes for each further point."""
    few, many = (measure_sweep_by_python(bench, points) for points in ([FIRST_POINT], [FIRST_POINT, *FURTHER_POINTS]))
    return (many - few) / len(FURTHER_POINTS)


def measure_sweep_by_python(bench: Bench, trees: list[int]) -> float:
    swept = f"{FOREST}.n_estimators={','.join(map(str, trees))}"
    with open_fresh_store() as store:
        return bench.python_main(store, "-m", swept, f"hydra.sweep.dir={store.folder}")


def measure_further_point_in_script(bench: Bench) -> float:
    """Measure the plain script on the same further points, once it has fitted the first; return their average."""
    points = json.dumps([{"n_estimators": trees} for trees in (FIRST_POINT, *FURTHER_POINTS)])
    with open_fresh_store() as store:
        bench.plain(store, "--points", points)
        seconds = json.loads(store.output.read_text().splitlines()[-1])
    return float(mean(seconds[1:]))


def measure_sweep_by_mlflow(bench: Bench, *options: str) -> float:
    with open_fresh_store() as store:
        return bench.mlflow_run(
            store, f"-m {FOREST}.n_estimators=10,50,80", f"hydra.sweep.dir={store.folder}", *options
        )


def measure_cold_sweep(bench: Bench) -> float:
    """Measure the sweep without warm steps, reuse and jobs side by side: one after the other, everything again."""
    one_by_one = ("hydra/launcher=basic", "main.launcher=subprocess")
    return measure_sweep_by_mlflow(bench, *one_by_one, "main.reuse=false", "sweep.test=all")


COMPARISONS = (
    Comparison(
        Goal("a", "`mlflow run .`, every step executed", ("a fresh Python for each step", "warm"), 3.0, at_least=True),
        measure_cold_pipeline,
        measure_pipeline_by_mlflow,
    ),
    Comparison(
        Goal("b", "the same work, by its test AUC", ("`python main.py`, every step executed", "a plain script"), 2.5),
        measure_pipeline_by_python,
        measure_plain_script,
    ),
    Comparison(
        Goal("c", "`mlflow run .`, nothing changed", ("every step reused", "a project that only opens a run"), 1.4),
        measure_second_pipeline,
        measure_empty_project,
    ),
    Comparison(
        Goal("d", "one further point of a sweep", ("`python main.py -m`", "fit, convert and score in a script"), 1.8),
        measure_further_point,
        measure_further_point_in_script,
    ),
    Comparison(
        Goal(
            "e",
            "a sweep of three points",
            ("one job after the other, fresh Pythons, nothing reused", "as it is"),
            5.0,
            at_least=True,
        ),
        measure_cold_sweep,
        measure_sweep_by_mlflow,
    ),
)
"""The goals that compare two commands."""

GROWTH = "f"
KEYS = [*(one.goal.key for one in COMPARISONS), GROWTH]


def measure_growth(small: int = SMALL_ROWS, large: int = LARGE_ROWS) -> Iterator[Result]:
    """Measure each step on both sizes, once: it takes minutes, and limits so wide need no better."""
    of_small, of_large = size.measure_costs(small), size.measure_costs(large)
    for step, ours in of_large.items():
        theirs = of_small[step]
        what = f"ten times the rows: {step}; peak memory {ours.peak_gb:.1f} GB and {theirs.peak_gb:.1f} GB"
        target = None if step in NOT_JUDGED else MOST_GROWTH
        goal = Goal(GROWTH, what, (f"{large:,} rows", f"{small:,} rows"), target)
        yield Result(goal, [(ours.seconds, theirs.seconds)])


def measure(bench: Bench, keys: list[str], repeat: int) -> Iterator[Result]:
    """Measure the goals of these keys, one after the other."""
    wanted = [one for one in COMPARISONS if one.goal.key in keys]
    if wanted:
        console.print(f"once beforehand, to have all files in memory: {measure_pipeline_by_python(bench):.2f} s")
    yield from (take_turns(bench, one, repeat) for one in wanted)
    if GROWTH in keys:
        yield from measure_growth()


def choose_data(real: Path | None) -> tuple[Bench, str]:
    """Return what to measure on, and how to call it."""
    if real and real.is_file():
        return Bench(real.resolve(), "uci"), "the real data"
    return Bench(ROOT / "data" / "sample.csv.gz", "sample"), "the bundled sample (no real data at hand)"


def main(argv: list[str] | None = None) -> None:
    flags = make_benchmark_parser(__doc__, KEYS, "results.md")
    flags.add_argument("real_csv", type=Path, nargs="?", help="the UCI table, data set 350, as CSV")
    args = flags.parse_args(argv)
    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it logs every new store
    bench, about = choose_data(args.real_csv)
    note = f"Medians of {args.repeat} (ten times the rows: of 1), on {about}. {describe_machine()}"
    write_results(measure(bench, args.only, args.repeat), args.output, note)


if __name__ == "__main__":
    main()

"""speed: speed of the pipeline, compared with other ways of the same work -> a table and results.md.

The measurement takes 30 minutes and needs an idle machine. Every measurement has its own temporary tracking
store, created before the clock starts. The sides of a goal are measured in turns, so that a slow period affects both.

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
"""Numbers of trees in two sweeps, the first point alone and all points. Their difference is the cost of the others."""
SAME_AUC = 1e-9
"""Allowed difference. Swapping two rows of the test split changes ROC AUC by about 1e-7, rounding by 1e-16."""

SMALL_ROWS, LARGE_ROWS = 300_000, 3_000_000
MOST_GROWTH = 12.0
NOT_JUDGED = ("random_forest", size.PIPELINE)
"""Steps without a goal for their growth: the time of a fit does not depend on the handling of tables."""


@dataclass
class Bench:
    """Table, its data set, and the test ROC AUC that all ways of training must reach."""

    table: Path
    dataset: str
    aucs: set[float] = field(default_factory=set)

    @property
    def options(self) -> list[str]:
        """Hydra options that select the table."""
        return [f"data={self.dataset}", f"data.file_url={self.table}"]

    def run_by_mlflow(self, store: Store, *options: str) -> float:
        """Return the seconds of `mlflow run .` with these Hydra options."""
        words = " ".join([*options, *self.options])
        return store.measure_seconds("mlflow", "run", ".", "--env-manager", "local", "-P", f"hydra_options={words}")

    def run_by_python(self, store: Store, *options: str) -> float:
        """Return the seconds of `python main.py` with these Hydra options."""
        return store.measure_seconds(sys.executable, "main.py", *options, *self.options)

    def run_script(self, store: Store, *arguments: str) -> float:
        """Return the seconds of the plain script."""
        description = str(ROOT / "data" / f"{self.dataset}.yaml")
        command = [sys.executable, "benchmarks/plain.py", str(self.table), description, str(store.folder / "plain")]
        return store.measure_seconds(*command, *arguments, PYTHONPATH=str(ROOT))

    def verify_auc(self, *aucs: float) -> None:
        """Raise MeasurementFailed if a ROC AUC differs from the earlier ones: all sides must do the same work."""
        self.aucs |= {*aucs}
        if max(self.aucs) - min(self.aucs) > SAME_AUC:
            raise MeasurementFailed(
                f"test ROC AUC differs between the sides (found {sorted(self.aucs)}, allowed difference {SAME_AUC})"
            )

    def verify_logged_auc(self, store: Store) -> None:
        """Raise MeasurementFailed if a ROC AUC in the store differs from the earlier ones."""
        self.verify_auc(*(run.data.metrics["test_roc_auc"] for run in store.list_runs("metrics.test_roc_auc > 0")))


def measure_pipeline_by_mlflow(bench: Bench, *options: str) -> float:
    """Return the seconds of `mlflow run .` with every step executed."""
    with open_fresh_store() as store:
        seconds = bench.run_by_mlflow(store, "main.reuse=false", *options)
        bench.verify_logged_auc(store)
    return seconds


def measure_cold_pipeline(bench: Bench) -> float:
    """Return the seconds of `mlflow run .` with a new Python process for each step."""
    return measure_pipeline_by_mlflow(bench, "main.launcher=subprocess")


def measure_pipeline_by_python(bench: Bench) -> float:
    """Return the seconds of `python main.py` with every step executed."""
    with open_fresh_store() as store:
        seconds = bench.run_by_python(store, "main.reuse=false")
        bench.verify_logged_auc(store)
    return seconds


def measure_plain_script(bench: Bench) -> float:
    """Return the seconds of the plain script."""
    with open_fresh_store() as store:
        seconds = bench.run_script(store)
        bench.verify_auc(json.loads((store.folder / "plain" / "metrics.json").read_text())["test_roc_auc"])
    return seconds


def measure_second_pipeline(bench: Bench) -> float:
    """Return the seconds of the second of two pipeline runs with no change between them."""
    with open_fresh_store() as store:
        bench.run_by_mlflow(store)
        before = len(store.list_runs("tags.step != ''"))
        seconds = bench.run_by_mlflow(store)
        if len(store.list_runs("tags.step != ''")) != before:
            raise MeasurementFailed("second of two equal pipeline runs: steps ran again (expected: all reused)")
    return seconds


def measure_empty_project(_bench: Bench) -> float:
    """Return the seconds of an MLflow project that only opens a run."""
    with open_fresh_store() as store:
        return store.measure_seconds("mlflow", "run", "benchmarks/empty", "--env-manager", "local")


def measure_further_point(bench: Bench) -> float:
    """Return the additional seconds of a sweep for each further point."""
    short, long = (measure_sweep_by_python(bench, points) for points in ([FIRST_POINT], [FIRST_POINT, *FURTHER_POINTS]))
    return (long - short) / len(FURTHER_POINTS)


def measure_sweep_by_python(bench: Bench, trees: list[int]) -> float:
    """Return the seconds of `python main.py -m` over numbers of trees."""
    swept = f"{FOREST}.n_estimators={','.join(map(str, trees))}"
    with open_fresh_store() as store:
        return bench.run_by_python(store, "-m", swept, f"hydra.sweep.dir={store.folder}")


def measure_further_point_in_script(bench: Bench) -> float:
    """Return the plain script's mean seconds for each of the same further points."""
    points = json.dumps([{"n_estimators": trees} for trees in (FIRST_POINT, *FURTHER_POINTS)])
    with open_fresh_store() as store:
        bench.run_script(store, "--points", points)
        seconds = json.loads(store.output.read_text().splitlines()[-1])
    return float(mean(seconds[1:]))


def measure_sweep_by_mlflow(bench: Bench, *options: str) -> float:
    """Return the seconds of `mlflow run .` with a sweep of three points."""
    with open_fresh_store() as store:
        return bench.run_by_mlflow(
            store, f"-m {FOREST}.n_estimators=10,50,80", f"hydra.sweep.dir={store.folder}", *options
        )


def measure_cold_sweep(bench: Bench) -> float:
    """Return the seconds of a sweep with sequential jobs, without warm steps and reuse."""
    one_by_one = ("hydra/launcher=basic", "main.launcher=subprocess")
    return measure_sweep_by_mlflow(bench, *one_by_one, "main.reuse=false", "sweep.test=all")


COMPARISONS = (
    Comparison(
        Goal("a", "`mlflow run .`, every step executed", ("a fresh Python for each step", "warm"), 3.0, at_least=True),
        measure_cold_pipeline,
        measure_pipeline_by_mlflow,
    ),
    Comparison(
        Goal(
            "b",
            "the same work, verified by its test ROC AUC",
            ("`python main.py`, every step executed", "a plain script"),
            2.5,
        ),
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
            ("sequential jobs, fresh Pythons, nothing reused", "default"),
            5.0,
            at_least=True,
        ),
        measure_cold_sweep,
        measure_sweep_by_mlflow,
    ),
)
"""Goals that compare two commands."""

GROWTH = "f"
KEYS = [*(comparison.goal.key for comparison in COMPARISONS), GROWTH]


def measure_growth(small: int = SMALL_ROWS, large: int = LARGE_ROWS) -> Iterator[Result]:
    """Measure each step once on both sizes, which is precise enough for limits so wide."""
    small_costs, large_costs = size.measure_costs(small), size.measure_costs(large)
    for step, large_cost in large_costs.items():
        small_cost = small_costs[step]
        peaks = f"peak memory {large_cost.peak_gb:.1f} GB and {small_cost.peak_gb:.1f} GB"
        title = f"ten times the rows: {step}; {peaks}"
        target = None if step in NOT_JUDGED else MOST_GROWTH
        goal = Goal(GROWTH, title, (f"{large:,} rows", f"{small:,} rows"), target)
        yield Result(goal, [(large_cost.seconds, small_cost.seconds)])


def measure(bench: Bench, keys: list[str], repeat: int) -> Iterator[Result]:
    """Measure the goals with these keys in turn."""
    comparisons = [comparison for comparison in COMPARISONS if comparison.goal.key in keys]
    if comparisons:
        console.print(f"first run, which loads all files into memory: {measure_pipeline_by_python(bench):.2f} s")
    yield from (take_turns(bench, comparison, repeat) for comparison in comparisons)
    if GROWTH in keys:
        yield from measure_growth()


def choose_data(real: Path | None) -> tuple[Bench, str]:
    """Return the bench for the real data if they exist, else for the bundled sample, and its name in words."""
    if real and real.is_file():
        return Bench(real.resolve(), "uci"), "the real data"
    return Bench(ROOT / "data" / "sample.csv.gz", "sample"), "the bundled sample (real data not available)"


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    flags = make_benchmark_parser(__doc__, KEYS, "results.md")
    flags.add_argument("real_csv", type=Path, nargs="?", help="table of UCI data set 350, as CSV")
    args = flags.parse_args(argv)
    logging.getLogger("mlflow").setLevel(logging.WARNING)  # MLflow logs every new store
    bench, data_name = choose_data(args.real_csv)
    note = f"Medians of {args.repeat} (ten times the rows: of 1), on {data_name}. {describe_machine()}"
    write_results(measure(bench, args.only, args.repeat), args.output, note)


if __name__ == "__main__":
    main()

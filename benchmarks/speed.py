"""speed: the goals of speed, each measured on both of its sides -> a table, results.json and results.md.

Wants a quiet machine and half an hour. Every measurement has a tracking store and artifacts of its own, made before
the clock starts, in a folder that goes with it. The sides of a goal take turns, so that a machine that slows down
slows both.

Run from the repository root: PYTHONPATH=. python benchmarks/speed.py [REAL_CSV] [--only a,b] [--repeat 5]
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from benchmarks import size
from benchmarks.measuring import Comparison, MeasurementFailed, Store, console, fresh_store, take_turns
from benchmarks.report import Goal, Result, as_markdown, as_table, footnote, machine
from stepkit.paths import ROOT
from stepkit.step.flags import positive

FOREST = "random_forest_pipeline.random_forest"
FIRST_POINT, FURTHER_POINTS = 90, (95, 100, 105)
"""Trees of the sweeps whose difference is the cost of a further point: with the first alone, and with all."""
SAME_AUC = 1e-9
"""Two rows of the test split in another order change the AUC by a hundred times that; sums of floats, by 1e-16."""

SMALL_ROWS, LARGE_ROWS = 300_000, 3_000_000


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

    def plain(self, store: Store, *arguments: str) -> float:
        description = str(ROOT / "data" / f"{self.dataset}.yaml")
        command = [sys.executable, "benchmarks/plain.py", str(self.table), description, str(store.folder / "plain")]
        return store.seconds(*command, *arguments, PYTHONPATH=str(ROOT))

    def expect_auc(self, found: set[float]) -> None:
        """Raise MeasurementFailed unless it is the AUC of all before: the work is the same."""
        self.aucs |= found
        if max(self.aucs) - min(self.aucs) > SAME_AUC:
            raise MeasurementFailed(f"the two sides do not do the same work: test AUC {sorted(self.aucs)}")


def pipeline_by_mlflow(bench: Bench, *options: str) -> float:
    with fresh_store() as store:
        seconds = bench.mlflow_run(store, "main.reuse=false", *options)
        bench.expect_auc(store.test_aucs())
    return seconds


def cold_pipeline(bench: Bench) -> float:
    return pipeline_by_mlflow(bench, "main.launcher=subprocess")


def pipeline_by_python(bench: Bench) -> float:
    with fresh_store() as store:
        seconds = store.seconds(sys.executable, "main.py", "main.reuse=false", *bench.options)
        bench.expect_auc(store.test_aucs())
    return seconds


def plain_script(bench: Bench) -> float:
    with fresh_store() as store:
        seconds = bench.plain(store)
        bench.expect_auc({json.loads((store.folder / "plain" / "metrics.json").read_text())["test_roc_auc"]})
    return seconds


def second_pipeline(bench: Bench) -> float:
    """The second of two pipelines between which nothing changed."""
    with fresh_store() as store:
        bench.mlflow_run(store)
        before = store.count_steps()
        seconds = bench.mlflow_run(store)
        if store.count_steps() != before:
            raise MeasurementFailed("the second of two equal pipelines has run steps again")
    return seconds


def empty_project(bench: Bench) -> float:
    with fresh_store() as store:
        return store.seconds("mlflow", "run", "benchmarks/empty", "--env-manager", "local")


def further_point(bench: Bench) -> float:
    """What a sweep takes longer for each point more."""
    few, many = (sweep_by_python(bench, points) for points in ([FIRST_POINT], [FIRST_POINT, *FURTHER_POINTS]))
    return (many - few) / len(FURTHER_POINTS)


def sweep_by_python(bench: Bench, trees: list[int]) -> float:
    with fresh_store() as store:
        swept = f"{FOREST}.n_estimators={','.join(map(str, trees))}"
        return store.seconds(sys.executable, "main.py", "-m", swept, f"hydra.sweep.dir={store.folder}", *bench.options)


def further_point_in_plain(bench: Bench) -> float:
    """What the plain script takes on the average of the same further points, once it has fitted the first."""
    points = json.dumps([{"n_estimators": trees} for trees in (FIRST_POINT, *FURTHER_POINTS)])
    with fresh_store() as store:
        bench.plain(store, "--points", points)
        told = json.loads((store.folder / "output.txt").read_text().splitlines()[-1])
    return float(mean(told[1:]))


def sweep_by_mlflow(bench: Bench, *options: str) -> float:
    with fresh_store() as store:
        swept = f"-m {FOREST}.n_estimators=10,50,80"
        return bench.mlflow_run(store, swept, f"hydra.sweep.dir={store.folder}", *options)


def cold_sweep(bench: Bench) -> float:
    """The sweep as it was before warm steps, reuse and jobs side by side: one job after the other, everything anew."""
    one_by_one = ("hydra/launcher=basic", "main.launcher=subprocess")
    return sweep_by_mlflow(bench, *one_by_one, "main.reuse=false", "sweep.test=all")


COMPARISONS = (
    Comparison(
        Goal("a", "`mlflow run .`, every step executed", ("a fresh Python for each step", "warm"), 3.0, at_least=True),
        cold_pipeline,
        pipeline_by_mlflow,
    ),
    Comparison(
        Goal(
            "b",
            "the same work, by its test AUC",
            ("`python main.py`, every step executed", "a plain script"),
            2.5,
        ),
        pipeline_by_python,
        plain_script,
    ),
    Comparison(
        Goal("c", "`mlflow run .`, nothing changed", ("every step reused", "a project that only opens a run"), 1.4),
        second_pipeline,
        empty_project,
    ),
    Comparison(
        Goal("d", "one further point of a sweep", ("`python main.py -m`", "fit, convert and score in a script"), 1.8),
        further_point,
        further_point_in_plain,
    ),
    Comparison(
        Goal(
            "e",
            "a sweep of three points",
            ("one job after the other, fresh Pythons, nothing reused", "as it is"),
            5.0,
            at_least=True,
        ),
        cold_sweep,
        sweep_by_mlflow,
    ),
)
"""The goals that compare two commands."""

GROWTH = Goal("f", "ten times the rows", (f"{LARGE_ROWS:,} rows", f"{SMALL_ROWS:,} rows"), 12.0)


def growth() -> Iterator[Result]:
    """Measure each step on both sizes, once: it takes minutes, and limits so wide need no better."""
    for row in size.measure(SMALL_ROWS, LARGE_ROWS):
        judged = row["step"] not in size.NOT_JUDGED
        goal = Goal("f", f"{GROWTH.what}: {row['step']}", GROWTH.sides, GROWTH.target if judged else None)
        note = f"peak memory {row['peak_gb_large']:.1f} GB and {row['peak_gb_small']:.1f} GB"
        yield Result(goal, [(row["seconds_large"], row["seconds_small"])], note)


def measure(bench: Bench, keys: list[str], repeat: int) -> Iterator[Result]:
    """Measure the goals of these keys, one after the other."""
    wanted = [one for one in COMPARISONS if one.goal.key in keys]
    if wanted:
        console.print(f"once beforehand, to have all files in memory: {pipeline_by_python(bench):.2f} s")
    yield from (take_turns(bench, one, repeat) for one in wanted)
    if GROWTH.key in keys:
        yield from growth()


def write(folder: Path, results: list[Result], about: str, note: str, found: dict[str, object]) -> None:
    told = {"machine": found, "data": about, "results": [result.as_dict() for result in results]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    (folder / "results.md").write_text(as_markdown(results, note), encoding="utf-8")


def keys_of(text: str) -> list[str]:
    """Parse the keys of goals: "a,b".

    Raises:
        argparse.ArgumentTypeError: a key that no goal has.
    """
    known = [*(one.goal.key for one in COMPARISONS), GROWTH.key]
    keys = text.split(",")
    if unknown := [key for key in keys if key not in known]:
        raise argparse.ArgumentTypeError(f"no goal {', '.join(unknown)}; the goals are {','.join(known)}")
    return keys


def parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("real_csv", type=Path, nargs="?", help="the UCI table, data set 350, as CSV")
    flags.add_argument("--repeat", type=positive(int), default=5, help="how often a to e are measured")
    flags.add_argument("--only", type=keys_of, default="a,b,c,d,e,f", help="the goals to measure")
    flags.add_argument("--folder", type=Path, default=ROOT / "benchmarks", help="where results.json and .md go")
    flags.add_argument("--strict", action="store_true", help="exit status 1 if a goal is missed")
    return flags


def chosen_data(real: Path | None) -> tuple[Bench, str]:
    """Return what to measure on, and how to call it."""
    if real and real.is_file():
        return Bench(real.resolve(), "uci"), "the real data"
    return Bench(ROOT / "data" / "sample.csv.gz", "sample"), "the bundled sample (no real data at hand)"


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of every new store
    bench, about = chosen_data(args.real_csv)
    found = machine()
    note = footnote(found, about, args.repeat)
    results: list[Result] = []
    for result in measure(bench, args.only, args.repeat):
        results.append(result)
        write(args.folder, results, about, note, found)  # each time: half an hour is long enough for an accident
    console.print(as_table(results, note))
    return int(args.strict and not all(result.is_met for result in results))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MeasurementFailed as error:
        sys.exit(f"measurement failed: {error}")

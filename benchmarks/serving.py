"""serving: the goals of serving, the scorer beside MLflow's own server -> a table and serving.md.

Wants a quiet machine and a quarter of an hour. A pipeline on the bundled sample trains the champion in a store of its
own; all servers of a goal stand on the same machine, on loopback, and the sides take turns under the same load. A
server that answers anything but 200, or other probabilities than the rest, ends the measurement.

Run from the repository root: PYTHONPATH=. python benchmarks/serving.py [--only a,b] [--repeat 5] [--seconds 5]
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import psutil
import requests
import skops.io
from mlflow import MlflowClient
from mlflow.models import Model, ModelSignature

from benchmarks.load import Load, drive_for, post
from benchmarks.report import Goal, Result, as_markdown, as_table, machine
from benchmarks.speed import Comparison, MeasurementFailed, Store, console, fresh_store, take_turns
from random_forest.export import FILES, TRUSTED_TYPES
from simulate.clients import chunks
from stepkit.args import positive
from stepkit.tracking import ROOT

MODEL = "credit_default"
CHAMPION = f"models:/{MODEL}@champion"
BATCH_ROWS = 1_000_000
MANY_ROWS = 1000
WARM_UP_CONNECTIONS = 8
CLOSE = 1e-5
SECONDS_TO_START = 120.0
SECONDS_TO_WARM_UP = 1.0
KB_PER_GB = 1e6

PLAIN = "scikit-learn model, stock server"
STOCK = "this model, stock server"
SCORER = "scorer"
SCORER_BY_PROJECT = "scorer by `mlflow run`"
UNLOGGED = "scorer, log off"
SHADOWED = "scorer, shadow on"
BATCH_SIDES = ("`mlflow models predict`", "`mlflow run ./serve -e batch`")
NOT_INPUTS = ["ID", "default payment next month"]


@dataclass
class Bench:
    """A trained champion, the same forest as a plain model, the requests, and the servers that run by now."""

    store: Store
    rows: pd.DataFrame
    seconds: float
    running: dict[str, str] = field(default_factory=dict)
    cleanup: ExitStack = field(default_factory=ExitStack)

    @property
    def plain_model(self) -> Path:
        return self.store.folder / "plain"

    def request(self, rows: int) -> bytes:
        table = self.rows.head(rows).to_json(orient="split", index=False)
        return f'{{"dataframe_split": {table}}}'.encode()

    def url(self, kind: str) -> str:
        """Return the address of a server of this kind; start and warm it up if there is none yet."""
        if kind not in self.running:
            url, _ = self.cleanup.enter_context(started(self, kind))
            expect_probabilities(self, kind, url)
            if kind == SHADOWED:
                wait_for_shadow(url)
            drive_for(SECONDS_TO_WARM_UP, url, post(url, self.request(1)), WARM_UP_CONNECTIONS)
            self.running[kind] = url
        return self.running[kind]

    def stop_servers(self) -> None:
        self.running.clear()
        self.cleanup.close()


def command_of(bench: Bench, kind: str, port: int) -> list[str]:
    """Return the words that start a server of this kind."""
    log = f"sqlite:///{bench.store.folder / f'predictions-{port}.db'}"
    if kind in (PLAIN, STOCK):
        model = str(bench.plain_model) if kind == PLAIN else CHAMPION
        return ["mlflow", "models", "serve", "-m", model, "--env-manager", "local", "--port", str(port)]
    if kind == SCORER_BY_PROJECT:
        return ["mlflow", "run", "./serve", "--env-manager", "local", "-P", f"port={port}", "-P", f"log_url={log}"]
    more = {UNLOGGED: ["--sample_rate", "0"], SHADOWED: ["--shadow_alias", "challenger"]}.get(kind, [])
    return [sys.executable, "-P", "serve/run.py", "--port", str(port), "--log_url", log, *more]


@contextmanager
def started(bench: Bench, kind: str) -> Iterator[tuple[str, float]]:
    """Start a server; yield its address and the seconds until its first answer."""
    port = free_port()
    output = bench.store.folder / f"server-{port}.txt"
    env = {**bench.store.environment, "PYTHONPATH": str(ROOT)}
    began = time.perf_counter()
    with output.open("wb") as file:
        process = subprocess.Popen(
            command_of(bench, kind, port), cwd=ROOT, env=env, stdout=file, stderr=file, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for_answer(bench, process, url, output)
        yield url, time.perf_counter() - began
    finally:
        # MLflow's commands start the server as a child
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        process.wait()


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_answer(bench: Bench, process: subprocess.Popen[bytes], url: str, output: Path) -> None:
    """Return at the first prediction.

    Raises:
        MeasurementFailed: the server has ended, or does not answer.
    """
    end = time.monotonic() + SECONDS_TO_START
    while not predicts(url, bench.request(1)):
        if process.poll() is not None or time.monotonic() > end:
            raise MeasurementFailed(f"no server at {url}:\n{output.read_text(errors='replace')[-2000:]}")
        time.sleep(0.02)


def wait_for_shadow(url: str) -> None:
    """Return once the second model is loaded; raise MeasurementFailed if it is not."""
    end = time.monotonic() + SECONDS_TO_START
    while not requests.get(f"{url}/health", timeout=60).json()["shadow"]:
        if time.monotonic() > end:
            raise MeasurementFailed(f"no shadow at {url}")
        time.sleep(0.1)


def predicts(url: str, body: bytes) -> bool:
    try:
        return answer_of(url, body).ok
    except requests.ConnectionError:
        return False


def answer_of(url: str, body: bytes) -> requests.Response:
    return requests.post(f"{url}/invocations", data=body, headers={"Content-Type": "application/json"}, timeout=60)


def probabilities(predictions: list[Any]) -> np.ndarray:
    """Return the probabilities of default of an answer of any of the servers."""
    return np.array([one["probability"] if isinstance(one, dict) else one[1] for one in predictions])


def expect_probabilities(bench: Bench, kind: str, url: str) -> None:
    """Raise MeasurementFailed unless the server gives the probabilities of the fitted forest."""
    found = probabilities(answer_of(url, bench.request(MANY_ROWS)).json()["predictions"])
    expected = mlflow.pyfunc.load_model(CHAMPION).predict(bench.rows)["probability"].to_numpy()
    if not np.abs(found - expected).max() < CLOSE:
        raise MeasurementFailed(f"{kind} does not answer as the champion does")


@contextmanager
def prepared(seconds: float) -> Iterator[Bench]:
    """Train on the bundled sample, register a challenger too, and save the forest as a plain scikit-learn model."""
    with fresh_store() as store:
        store.seconds(sys.executable, "main.py")
        mlflow.set_tracking_uri(store.uri)
        client = MlflowClient()
        champion = client.get_model_version_by_alias(MODEL, "champion")
        again = client.create_model_version(MODEL, str(champion.source), champion.run_id)
        client.set_registered_model_alias(MODEL, "challenger", again.version)
        path = Path(mlflow.artifacts.download_artifacts(artifact_uri=CHAMPION))
        signature = Model.load(str(path)).signature
        assert signature is not None, "every export has one"
        rows = next(chunks(MANY_ROWS, seed=7))[signature.inputs.input_names()].astype(float)
        bench = Bench(store, rows, seconds)
        save_plain_model(path, signature, bench.plain_model)
        try:
            yield bench
        finally:
            bench.stop_servers()


def save_plain_model(exported: Path, signature: ModelSignature, place: Path) -> None:
    """Save the fitted pipeline that lies beside the graph as `mlflow.sklearn` saves any."""
    fitted = skops.io.load(exported / "artifacts" / FILES["sklearn"], trusted=TRUSTED_TYPES)
    inputs = ModelSignature(inputs=signature.inputs)
    mlflow.sklearn.save_model(
        fitted, str(place), signature=inputs, pyfunc_predict_fn="predict_proba",
        pip_requirements=["scikit-learn"], skops_trusted_types=TRUSTED_TYPES,
    )  # fmt: skip


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
    start("k", (PLAIN, SCORER), None),
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
    began = time.perf_counter()
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=bench.store.environment, stdout=file, stderr=file)
        # the peak of the largest process among it and its children; no other call tells that of one command
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    took = time.perf_counter() - began
    if process.returncode or not output.is_file():
        raise MeasurementFailed(f"{' '.join(command)}:\n{log.read_text(errors='replace')[-2000:]}")
    output.unlink()
    return took, usage.ru_maxrss / KB_PER_GB


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

"""size: the pipeline on many synthetic clients -> seconds and peak memory of every step.

The forest is kept small (10 trees on 100,000 rows each).
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
from mlflow.entities import Run

from benchmarks.measuring import EXPERIMENT, Store, open_fresh_store, verify_success
from stepkit.paths import ROOT

PIPELINE = "pipeline"
"""Name of the result for the whole command, with all of its processes."""

SAMPLE_SECONDS = 0.1
OPTIONS = (
    "data.sha256=null",
    "data.ks_alpha=1e-9",  # a chance difference of the tables must not end the measurement
    "download.artifact_name=raw_data.parquet",
    "preprocess.artifact_name=preprocessed_data.parquet",
    f"main.experiment_name={EXPERIMENT}",
    "random_forest_pipeline.random_forest.n_estimators=10",
    "random_forest_pipeline.random_forest.max_samples=100000",
    "random_forest_pipeline.random_forest.max_depth=10",
)


@dataclass(frozen=True)
class StepCost:
    """Cost of a step: seconds from start to end of its run, and peak resident memory in GB (1e9 bytes)."""

    seconds: float
    peak_gb: float


def measure_costs(rows: int) -> dict[str, StepCost]:
    """Run the whole pipeline on `rows` clients; return the cost of each step in their order, and of the `pipeline`.

    The peak of `pipeline` is the largest sum over all processes at a time. Shared memory counts once per process.

    Raises:
        MeasurementFailed: a table or the pipeline failed; the message contains the end of the output.
    """
    with open_fresh_store() as store:
        table, reference = (
            simulate_table(store, rows, seed=1),
            drop_repeated_clients(simulate_table(store, rows, seed=2)),
        )
        data = [f"data.file_url={table}", f"data.reference_dataset={reference}"]
        peaks = watch_memory([sys.executable, "main.py", *data, *OPTIONS], store.environment, store.output)
        runs = store.list_runs("")
    seconds = {get_folder(run): get_seconds(run) for run in runs if "step" in run.data.tags}
    seconds[PIPELINE] = max(map(get_seconds, runs))
    return {step: StepCost(took, peaks[step]) for step, took in seconds.items()}


def simulate_table(store: Store, rows: int, seed: int) -> Path:
    """Write a table of synthetic clients to the folder of the store; return its path."""
    path = store.folder / f"clients_{seed}.parquet"
    command = [sys.executable, "simulate/run.py", "--rows", str(rows), "--seed", str(seed), "--output", str(path)]
    store.measure_cost(*command, PYTHONPATH=str(ROOT))
    return path


def drop_repeated_clients(path: Path) -> Path:
    """Drop clients that differ only in their id, like preprocess: of millions, many owe and pay nothing."""
    pd.read_parquet(path).drop(columns="ID").drop_duplicates().to_parquet(path, index=False)
    return path


def watch_memory(command: list[str], environment: Mapping[str, str], output: Path) -> dict[str, float]:
    """Run a command in the repository; return the peak memory (GB) of each step and of all processes together.

    The working directory of a process identifies its step. Raise MeasurementFailed if the command fails.
    """
    peaks: dict[str, float] = {}
    with output.open("wb") as log:
        process = psutil.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None:
            now = [*iter_memory(process)]
            for folder, gb in [*now, (PIPELINE, sum(gb for _, gb in now))]:
                peaks[folder] = max(peaks.get(folder, 0.0), gb)
            with suppress(psutil.TimeoutExpired):
                process.wait(SAMPLE_SECONDS)
    verify_success(command, process.returncode, output)
    return peaks


def iter_memory(process: psutil.Popen) -> Iterator[tuple[str, float]]:
    """Yield name of working directory and resident memory (GB) of each running process."""
    with suppress(psutil.Error):  # a process may end at any time
        for member in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                yield Path(member.cwd()).name, member.memory_info().rss / 1e9


def get_folder(run: Run) -> str:
    """Return the folder of a step's project; MLflow records its path, or ROOT#FOLDER in a git repository."""
    return str(re.split("[/#]", run.data.tags["mlflow.source.name"])[-1])


def get_seconds(run: Run) -> float:
    """Return the duration of a run."""
    return float(run.info.end_time - run.info.start_time) / 1000

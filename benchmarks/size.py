"""size: the real pipeline on two numbers of synthetic clients -> seconds and peak memory of every step at both.

Exit status 1 if a limit is broken: a step's process holds more than 8 GB, or a step other than the forest takes more
than 1.2 times as long per row on the large table. The forest is kept small (10 trees on 100,000 rows each).

Run from the repository root: python benchmarks/size.py [ROWS_SMALL ROWS_LARGE]
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from mlflow import MlflowClient
from mlflow.entities import Run
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
SMALL, LARGE = 300_000, 3_000_000
EXPERIMENT = "size"
WHOLE = "pipeline"
"""The row for the whole command: all processes together."""

SAMPLE_SECONDS = 0.1
MOST_GB = 8.0
MOST_PER_ROW = 1.2
NOT_JUDGED = ("random_forest", WHOLE)
"""Rows whose seconds are shown only: a forest's fit is no matter of tables."""

OPTIONS = (
    "data.sha256=null",
    "data.ks_alpha=1e-9",  # both tables come from one distribution; chance must not end the measurement
    "download.artifact_name=raw_data.parquet",
    "preprocess.artifact_name=preprocessed_data.parquet",
    f"main.experiment_name={EXPERIMENT}",
    "random_forest_pipeline.random_forest.n_estimators=10",
    "random_forest_pipeline.random_forest.max_samples=100000",
    "random_forest_pipeline.random_forest.max_depth=10",
)


@dataclass(frozen=True)
class Cost:
    """What one step took: seconds from the start to the end of its run, and its peak resident memory in GB (1e9)."""

    seconds: float
    peak_gb: float


def measure(small: int = SMALL, large: int = LARGE) -> list[dict[str, Any]]:
    """Run the pipeline on `small` and on `large` rows; return one row per step, and one for the whole (`pipeline`).

    A row holds `step`, `seconds_small`, `seconds_large`, `ratio` (large by small), `peak_gb_small`, `peak_gb_large`.
    The whole's peak is the largest sum over all processes at one moment; it counts what they share several times.

    Raises:
        RuntimeError: a table could not be made, or a pipeline failed; the message holds the end of its output.
    """
    ours, theirs = costs(small), costs(large)
    return [
        {
            "step": step,
            **{f"{name}_small": value for name, value in asdict(ours[step]).items()},
            **{f"{name}_large": value for name, value in asdict(theirs[step]).items()},
            "ratio": theirs[step].seconds / ours[step].seconds,
        }
        for step in ours
    ]


def costs(rows: int) -> dict[str, Cost]:
    """Make a table and a reference of `rows` clients, run the whole pipeline on them; return the cost of each step."""
    with tempfile.TemporaryDirectory(prefix="size-") as name:
        folder = Path(name)
        table, reference = simulated(folder, rows, seed=1), as_reference(simulated(folder, rows, seed=2))
        client, environment = fresh_store(folder)
        where = [f"data.file_url={table}", f"data.reference_dataset={reference}"]
        peaks = watched([sys.executable, "main.py", *where, *OPTIONS], environment, folder / "output.txt")
        return {step: Cost(seconds, peaks[step]) for step, seconds in seconds_of(client).items()}


def simulated(folder: Path, rows: int, seed: int) -> Path:
    path = folder / f"clients_{seed}.parquet"
    command = [sys.executable, "simulate/run.py", "--rows", str(rows), "--seed", str(seed), "--output", str(path)]
    watched(command, {**os.environ, "PYTHONPATH": str(ROOT)}, folder / "simulate.txt")
    return path


def as_reference(path: Path) -> Path:
    """Drop the clients that are equal but for their id, as preprocess does: of millions, many owe and pay nothing."""
    pd.read_parquet(path).drop(columns="ID").drop_duplicates().to_parquet(path, index=False)
    return path


def fresh_store(folder: Path) -> tuple[MlflowClient, dict[str, str]]:
    """Return a client of a new tracking store in `folder`, and the environment in which a pipeline uses it."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    client.create_experiment(EXPERIMENT, artifact_location=(folder / "artifacts").as_uri())
    kept = {name: value for name, value in os.environ.items() if name not in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID")}
    return client, {**kept, "MLFLOW_TRACKING_URI": uri, "MLFLOW_DISABLE_TELEMETRY": "true"}


def watched(command: list[str], environment: dict[str, str], output: Path) -> dict[str, float]:
    """Run `command` in the repository to its end; return the peak memory (GB) of each step, and of all together.

    Raises:
        RuntimeError: it ended with another status than 0.
    """
    peaks: dict[str, float] = {}
    with output.open("wb") as log:
        process = psutil.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None:
            take_peaks(process, peaks)
            with suppress(psutil.TimeoutExpired):
                process.wait(SAMPLE_SECONDS)
    if process.returncode:
        last = "\n".join(output.read_text(errors="replace").splitlines()[-15:])
        raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}:\n{last}")
    return peaks


def take_peaks(process: psutil.Popen, peaks: dict[str, float]) -> None:
    """Raise `peaks` by what the processes at and below `process` hold now; a step's is known by its folder."""
    together = 0.0
    for folder, now, highest in resident(process):
        together += now
        peaks[folder] = max(peaks.get(folder, 0.0), highest)
    peaks[WHOLE] = max(peaks.get(WHOLE, 0.0), together)


def resident(process: psutil.Popen) -> Iterator[tuple[str, float, float]]:
    """Yield the name of its folder, the resident memory and the highest yet (GB) of each process that still lives."""
    with suppress(psutil.Error):  # they end while they are looked at
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                now = one.memory_info().rss / 1e9
                yield Path(one.cwd()).name, now, max(now, high_water(one.pid))


def high_water(pid: int) -> float:
    """Return the highest resident memory (GB) that Linux has seen of a process; 0 where it is not told."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) * 1024 / 1e9 for line in status.splitlines() if line.startswith("VmHWM:"))


def seconds_of(client: MlflowClient) -> dict[str, float]:
    """Return the seconds of each step's run, in their order, by the step's folder; last those of the whole."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None, "fresh_store has made it"
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    steps = {folder_of(run): seconds(run) for run in runs if "step" in run.data.tags}
    return {**steps, WHOLE: max(map(seconds, runs))}


def folder_of(run: Run) -> str:
    """The folder of a step's project; MLflow notes its path, or in a git repository ROOT#FOLDER."""
    return str(re.split("[/#]", run.data.tags["mlflow.source.name"])[-1])


def seconds(run: Run) -> float:
    return float(run.info.end_time - run.info.start_time) / 1000


def broken_limits(rows: list[dict[str, Any]], growth: float) -> list[str]:
    """Return, in words, each limit that a step breaks on a table that is `growth` times as large."""
    slow = [row for row in rows if row["step"] not in NOT_JUDGED and row["ratio"] > MOST_PER_ROW * growth]
    big = [row for row in rows if row["step"] != WHOLE and row["peak_gb_large"] > MOST_GB]
    return [f"{row['step']}: {row['ratio']:.1f} times as long for {growth:g} times the rows" for row in slow] + [
        f"{row['step']}: {row['peak_gb_large']:.1f} GB, more than {MOST_GB:g}" for row in big
    ]


def as_table(rows: list[dict[str, Any]], small: int, large: int) -> Table:
    table = Table("step", f"s at {small:,}", f"s at {large:,}", "ratio", f"GB at {small:,}", f"GB at {large:,}")
    for row in rows:
        numbers = [row[name] for name in ("seconds_small", "seconds_large", "ratio", "peak_gb_small", "peak_gb_large")]
        table.add_row(row["step"], *(f"{number:.2f}" for number in numbers))
    return table


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("small", type=int, nargs="?", default=SMALL, help="rows of the small table")
    parser.add_argument("large", type=int, nargs="?", default=LARGE, help="rows of the large table")
    args = parser.parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 120)
    rows = measure(args.small, args.large)
    console.print(as_table(rows, args.small, args.large))
    broken = broken_limits(rows, args.large / args.small)
    console.print(*broken or ["within all limits"], sep="\n", highlight=False)
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())

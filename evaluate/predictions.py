"""What a loaded model answers, and how long it takes for one row."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from statistics import median

import numpy as np
import pandas as pd
from mlflow.pyfunc import PyFuncModel

from stepkit.model.metrics import Scored
from stepkit.table.columns import Columns
from stepkit.table.labels import verify_labels
from stepkit.table.tables import to_model_input

ROWS_AT_ONCE = 100_000
TIMED_PREDICTIONS = 60
WORK = range(20_000)
"""Numbers that are summed after each answer, to see how busy the machine is: about half a millisecond of one core."""


def score_table(model: PyFuncModel, table: pd.DataFrame, columns: Columns) -> Scored:
    """Return the answers to n rows together with the truth in them.

    A large table is asked about in parts of about the same size: MLflow and the graph each copy what they are given.
    """
    ends = np.linspace(0, len(table), -(-len(table) // ROWS_AT_ONCE) + 1, dtype=int)
    parts = (to_model_input(table.iloc[first:last], columns) for first, last in pairwise(ends))
    answer = pd.concat([pd.DataFrame(model.predict(part)) for part in parts])
    verify_labels(table, columns.target)
    labels = table[columns.target].to_numpy(dtype=int)
    return Scored(labels, answer["probability"].to_numpy(), answer["class"].to_numpy())


def measure_latency_ms(model: PyFuncModel, table: pd.DataFrame, columns: Columns) -> float:
    """Return the median time of an answer for one row, as it would take a caller on a machine with nothing else to do.

    A busy machine makes every process wait. After each answer a fixed piece of work is timed: it waits as well, and
    by how much is known, since its CPU time does not grow. The half of the answers that met the least waiting counts.
    """
    row = to_model_input(table.head(1), columns)
    model.predict(row)  # the first one prepares what the others use
    measured = []
    for _ in range(TIMED_PREDICTIONS):
        seconds, _ = _measure_seconds(partial(model.predict, row))
        elapsed, cpu_seconds = _measure_seconds(partial(sum, WORK))
        measured.append((seconds, max(1.0, elapsed / max(cpu_seconds, 1e-9))))
    return 1000 * compute_calm_median(measured)


def compute_calm_median(measured: list[tuple[float, float]]) -> float:
    """Return the median of the calmer half of (seconds, slowdown), each without its slowdown."""
    calm = sorted(measured, key=lambda one: one[1])[: max(1, len(measured) // 2)]
    return median(seconds / slowdown for seconds, slowdown in calm)


def _measure_seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds that some work takes, and the CPU seconds of this thread."""
    began, cpu_began = time.perf_counter(), time.thread_time()
    work()
    return time.perf_counter() - began, time.thread_time() - cpu_began

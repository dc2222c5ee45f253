"""Predictions of a loaded model, and the time of a prediction for one row."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from statistics import median

# ONNX Runtime sends telemetry for every session unless this is set before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime
import pandas as pd
from mlflow.pyfunc import PyFuncModel

from stepkit.model.metrics import Scored
from stepkit.table.columns import Columns
from stepkit.table.labels import verify_labels
from stepkit.table.tables import to_model_input

ROWS_AT_ONCE = 100_000
TIMED_PREDICTIONS = 60
WORK = range(20_000)
"""Numbers that are summed after each prediction to measure the load of the machine: about 0.5 ms of one core."""


def score_table(model: PyFuncModel, table: pd.DataFrame, columns: Columns) -> Scored:
    """Return the predictions for n rows together with their labels.

    A large table is scored in parts of similar size, because MLflow and the graph each copy their input.
    """
    ends = np.linspace(0, len(table), -(-len(table) // ROWS_AT_ONCE) + 1, dtype=int)
    parts = (to_model_input(table.iloc[first:last], columns) for first, last in pairwise(ends))
    predictions = pd.concat([pd.DataFrame(model.predict(part)) for part in parts])
    verify_labels(table, columns.target)
    labels = table[columns.target].to_numpy(dtype=int)
    return Scored(labels, predictions["probability"].to_numpy(), predictions["class"].to_numpy())


def make_predict(model: PyFuncModel) -> Callable[[pd.DataFrame], np.ndarray]:
    """Return a function from n rows, as the model takes them, to (n,) probabilities."""
    return lambda rows: pd.DataFrame(model.predict(rows))["probability"].to_numpy()


def score_graph(path: Path, table: pd.DataFrame, columns: Columns) -> tuple[np.ndarray, list[str]]:
    """Return the (n,) probabilities of an ONNX graph for n rows, and the columns that are its inputs."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rows = to_model_input(table, columns)
    inputs = {}
    for node in session.get_inputs():
        values = rows[node.name]
        if node.type == "tensor(string)":
            array = values.astype(object).where(values.notna(), "").astype(str).to_numpy(dtype=object)
        else:
            array = values.to_numpy(dtype=np.float32, na_value=np.nan)
        inputs[node.name] = array.reshape(-1, 1)
    return session.run(["probabilities"], inputs)[0][:, 1].astype(float), list(inputs)


def measure_latency_ms(model: PyFuncModel, table: pd.DataFrame, columns: Columns) -> float:
    """Return the median time of a prediction for one row, in ms, corrected for the load of the machine.

    After each prediction, the elapsed time of a fixed piece of work is divided by its CPU time. This slowdown measures
    how long a busy machine makes a process wait. The half of the predictions with the least slowdown counts.
    """
    row = to_model_input(table.head(1), columns)
    model.predict(row)  # the first prediction includes one-time preparations
    measured = []
    for _ in range(TIMED_PREDICTIONS):
        seconds, _ = _measure_seconds(partial(model.predict, row))
        elapsed, cpu_seconds = _measure_seconds(partial(sum, WORK))
        measured.append((seconds, max(1.0, elapsed / max(cpu_seconds, 1e-9))))
    return 1000 * compute_calm_median(measured)


def compute_calm_median(measured: list[tuple[float, float]]) -> float:
    """Return the median of seconds / slowdown over the half of (seconds, slowdown) with the least slowdown."""
    calm = sorted(measured, key=itemgetter(1))[: max(1, len(measured) // 2)]
    return median(seconds / slowdown for seconds, slowdown in calm)


def _measure_seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Return the elapsed seconds and the CPU seconds of a function call in this thread."""
    began, cpu_began = time.perf_counter(), time.thread_time()
    work()
    return time.perf_counter() - began, time.thread_time() - cpu_began

"""What a loaded model answers, and how long it takes for one row."""

from __future__ import annotations

import time
from itertools import pairwise
from statistics import median

import numpy as np
import pandas as pd
from mlflow.pyfunc import PyFuncModel

from evaluate.resample import Scored
from stepkit.columns import Columns
from stepkit.labels import expect_labels
from stepkit.tables import as_model_input

ROWS_AT_ONCE = 100_000
TIMED_ANSWERS = 15


def score(model: PyFuncModel, table: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return probability and class of n rows, as the model answers anyone.

    A large table is asked about in parts of about the same size: MLflow and the graph each copy what they are given.
    """
    ends = np.linspace(0, len(table), -(-len(table) // ROWS_AT_ONCE) + 1, dtype=int)
    parts = (as_model_input(table.iloc[first:last], columns) for first, last in pairwise(ends))
    return pd.concat([pd.DataFrame(model.predict(part)) for part in parts])


def scored_by(model: PyFuncModel, table: pd.DataFrame, columns: Columns) -> Scored:
    """Return the answers to n rows together with the truth in them."""
    answer = score(model, table, columns)
    expect_labels(table, columns.target)
    labels = table[columns.target].to_numpy(dtype=int)
    return Scored(labels, answer["probability"].to_numpy(), answer["class"].to_numpy())


def milliseconds_per_answer(model: PyFuncModel, table: pd.DataFrame, columns: Columns) -> float:
    """Return the median time of an answer for one row, as it takes a caller in this process."""
    row = as_model_input(table.head(1), columns)
    model.predict(row)  # the first one prepares what the others use
    return 1000 * median(_seconds(model, row) for _ in range(TIMED_ANSWERS))


def _seconds(model: PyFuncModel, row: pd.DataFrame) -> float:
    began = time.perf_counter()
    model.predict(row)
    return time.perf_counter() - began

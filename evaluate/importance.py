"""Permutation importance: the loss of a model when one column is shuffled, on rows that it was not fitted on.

Source: Breiman: Random Forests, Machine Learning 45, 2001. The loss is that of ROC AUC, with DeLong's paired interval.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stepkit.model.statistics import Interval, compute_auc_difference
from stepkit.table.columns import Columns
from stepkit.table.tables import add_column

Predict = Callable[[pd.DataFrame], np.ndarray]
"""Function from n rows, as the model takes them, to (n,) probabilities."""


@dataclass(frozen=True)
class Importance(Interval):
    """Loss of ROC AUC when a column is shuffled, with its interval."""

    column: str
    label: str


def compute_importance(
    predict: Predict, rows: pd.DataFrame, labels: np.ndarray, columns: Columns, seed: int, level: float
) -> list[Importance]:
    """Return the importance of each column of `rows`, largest first; 0 for a column that the model does not use.

    `rows` are n rows as the model takes them, `labels` (n,) of 0 and 1, and `level` is that of the intervals.
    """
    random = np.random.default_rng(seed)
    before = predict(rows)
    importance = []
    for name in rows.columns:
        shuffled = add_column(rows, name, rows[name].to_numpy()[random.permutation(len(rows))])
        drop = compute_auc_difference(labels, before, predict(shuffled), level)
        importance.append(Importance(**drop.to_dict(), column=name, label=columns.columns[name].label or name))
    return sorted(importance, key=lambda column: -np.nan_to_num(column.value, nan=-1.0))


def sample_rows(rows: int, most: int, seed: int) -> np.ndarray:
    """Return the places of at most `most` of `rows` rows, in ascending order."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))

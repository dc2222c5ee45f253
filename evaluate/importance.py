"""How much a model loses when one column is shuffled: permutation importance on rows that it was not fitted to.

Breiman: Random Forests, Machine Learning 45, 2001; of ROC AUC, with DeLong's interval of the paired difference.
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
"""From n rows, as the model takes them, to (n,) probabilities."""


@dataclass(frozen=True)
class Importance(Interval):
    """The AUC that a column is worth."""

    column: str
    label: str


def importance(
    predict: Predict, rows: pd.DataFrame, labels: np.ndarray, columns: Columns, seed: int, level: float
) -> list[Importance]:
    """Return the importance of each column of n rows, the largest first.

    Args:
        rows: n rows as the model takes them; columns that it does not take are worth 0.
        labels: (n,) of 0 and 1.
    """
    random = np.random.default_rng(seed)
    before = predict(rows)
    found = []
    for name in rows.columns:
        shuffled = add_column(rows, name, rows[name].to_numpy()[random.permutation(len(rows))])
        drop = compute_auc_difference(labels, before, predict(shuffled), level)
        found.append(Importance(**drop.to_dict(), column=name, label=columns.columns[name].label or name))
    return sorted(found, key=lambda one: -np.nan_to_num(one.value, nan=-1.0))


def sample_rows(rows: int, most: int, seed: int) -> np.ndarray:
    """Return the places of at most `most` of n rows, in rising order."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))

"""Slices of the test split that are evaluated on their own: one per code of a column, or per band of a number."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from evaluate.bootstrap import Bootstrap
from stepkit.errors import BadParameter
from stepkit.model.metric_table import get_metric
from stepkit.model.metrics import Scored
from stepkit.model.statistics import Interval
from stepkit.settings.evaluate import Slices
from stepkit.table.columns import Columns
from stepkit.table.groups import iter_groups


@dataclass(frozen=True)
class Slice:
    """Rows with the same value of a column, and the metrics of the model on them."""

    column: str
    value: str
    label: str
    rows: int
    positives: int
    metrics: dict[str, Interval]

    def is_judged(self, settings: Slices) -> bool:
        """Return True if the slice has enough rows of both classes for a judgement."""
        fewest = min(self.positives, self.rows - self.positives)
        return self.rows >= settings.min_rows and fewest >= settings.min_positives

    def to_dict(self) -> dict[str, Any]:
        """Return the slice as in evaluation.json."""
        return {**vars(self), "metrics": {name: interval.to_dict() for name, interval in self.metrics.items()}}


def build_slices(
    scored: Scored, table: pd.DataFrame, columns: Columns, settings: Slices, bootstrap: Bootstrap
) -> list[Slice]:
    """Return every slice of n scored rows; `table` (n rows) has their columns.

    Raises:
        BadParameter: evaluate.slices.columns names a column that the data set does not have.
    """
    bands_by_column = settings.columns
    if bands_by_column is None:
        bands_by_column = {name: column.bands for name, column in columns.columns.items() if column.slices}
    if unknown := [name for name in bands_by_column if name not in columns.columns]:
        raise BadParameter(
            f"evaluate.slices.columns: the data set has no column {', '.join(unknown)}. "
            f"Its columns: {', '.join(columns.names)}."
        )
    slices: list[Slice] = []
    for name, bands in bands_by_column.items():
        column = columns.columns[name]
        for value, label, mask in iter_groups(table[name], column, bands):
            rows = scored.select(np.flatnonzero(mask))
            # Slices of equal size must not share their draws, so each slice has its own seed.
            seeded = replace(bootstrap, resamples=settings.resamples, seed=bootstrap.seed + 1 + len(slices))
            full_label, positives = f"{column.label or name}: {label}", int(rows.labels.sum())
            slices.append(Slice(name, value, full_label, len(rows), positives, seeded.compute_intervals(rows)))
    return slices


def choose_slice_metric(metric: str) -> str:
    """Return the metric that compares slices: the gate's `metric`, or ROC AUC if a lower `metric` is better.

    The worst slice is the one with the lowest value, and the gate's limit for it is a floor.
    """
    return "roc_auc" if get_metric(metric).lower_is_better else metric


def find_worst_slice(slices: list[Slice], settings: Slices, metric: str) -> Slice | None:
    """Return the slice with the lowest `metric` among those that are large enough to be judged."""
    judged = [part for part in slices if part.is_judged(settings) and np.isfinite(part.metrics[metric].value)]
    return min(judged, key=lambda part: part.metrics[metric].value, default=None)

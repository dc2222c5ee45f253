"""Parts of the test split that are looked at by themselves: per code of a column, per band of a number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from evaluate.bootstrap import Bootstrap
from stepkit.errors import BadParameter
from stepkit.model.metric_table import get_metric
from stepkit.model.metrics import Scored
from stepkit.model.statistics import Interval
from stepkit.settings.evaluate import Slices
from stepkit.table.columns import Column, Columns
from stepkit.table.tables import to_plain_text

MISSING = "missing"
MOST_VALUES = 30
"""Of a column with more codes, those with the most rows are looked at."""


@dataclass(frozen=True)
class Slice:
    """The rows with one value of one column: what they are called, and how the model did on them."""

    column: str
    value: str
    label: str
    rows: int
    positives: int
    metrics: dict[str, Interval]

    def is_judged(self, settings: Slices) -> bool:
        """Whether there are enough rows of both classes to say anything."""
        fewest = min(self.positives, self.rows - self.positives)
        return self.rows >= settings.min_rows and fewest >= settings.min_positives

    def to_dict(self) -> dict[str, Any]:
        found = {name: interval.to_dict() for name, interval in self.metrics.items()}
        return {**vars(self), "metrics": found}


def build_slices(
    scored: Scored, table: pd.DataFrame, columns: Columns, settings: Slices, how: Bootstrap
) -> list[Slice]:
    """Return every slice of n scored rows; `table` (n rows) holds their columns.

    Raises:
        BadParameter: a column is to be sliced that the data set does not describe.
    """
    bands_of = settings.columns
    if bands_of is None:
        bands_of = {name: column.bands for name, column in columns.columns.items() if column.slices}
    if unknown := [name for name in bands_of if name not in columns.columns]:
        raise BadParameter(
            f"evaluate.slices.columns names {', '.join(unknown)}, which the data set does not describe. "
            f"Its columns: {', '.join(columns.names)}."
        )
    found: list[Slice] = []
    for name, bands in bands_of.items():
        column = columns.columns[name]
        for value, label, mask in iter_parts(table[name], column, bands):
            rows = scored.select(np.flatnonzero(mask))
            # draws of their own: slices of equal size must not share them
            own = replace(how, resamples=settings.resamples, seed=how.seed + 1 + len(found))
            full_label = f"{column.label or name}: {label}"
            found.append(Slice(name, value, full_label, len(rows), int(rows.labels.sum()), own.compute_intervals(rows)))
    return found


def iter_parts(values: pd.Series, column: Column, bands: list[float]) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield (value, label, (n,) mask) for each code, or for each band, that any of n values falls into."""
    order = make_band_names(bands) if bands else [*map(str, column.labels), *map(str, column.values or [])]
    if bands:
        edges = [-np.inf, *bands, np.inf]
        texts = pd.Series(pd.cut(values.astype(float), edges, right=False, labels=order), dtype=object)
    else:
        texts = to_plain_text(values).astype(object)
    texts = texts.where(texts.notna() & (texts != ""), MISSING)
    places_of_rows, names = pd.factorize(texts)  # texts are slow to compare, and there may be millions
    commonest = names[np.argsort(-np.bincount(places_of_rows), kind="stable")][:MOST_VALUES]
    places = {name: place for place, name in enumerate(dict.fromkeys(order))}
    for text in sorted(commonest, key=lambda text: (places.get(text, len(places)), text)):
        yield text, column.get_label(text), places_of_rows == names.get_loc(text)


def make_band_names(bands: list[float]) -> list[str]:
    """Return the names of the bands that `bands` (k rising limits) divide the numbers into: k + 1."""
    between = [f"{low:g} to below {high:g}" for low, high in pairwise(bands)]
    return [f"below {bands[0]:g}", *between, f"{bands[-1]:g} and above"]


def choose_slice_metric(metric: str) -> str:
    """Return the metric by which slices are compared where models are by `metric`: ROC AUC if less of that is better.

    The worst slice is the lowest, and the gate's limit for it is a floor.
    """
    return "roc_auc" if get_metric(metric).lower_is_better else metric


def find_worst_slice(slices: list[Slice], settings: Slices, metric: str) -> Slice | None:
    """Return the slice with the lowest `metric` among those that are large enough to be judged."""
    judged = [one for one in slices if one.is_judged(settings) and np.isfinite(one.metrics[metric].value)]
    return min(judged, key=lambda one: one.metrics[metric].value, default=None)

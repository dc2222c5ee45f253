"""Information value of each column on the training split: iv.csv and iv.png."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stepkit.model.bands import IV_BANDS
from stepkit.model.binning import Evidence, compute_evidence
from stepkit.model.plots import LONGEST_NAME, MOST_BARS
from stepkit.step.run import StepRun
from stepkit.table.columns import Columns

TABLE, PICTURE = "iv.csv", "iv.png"
MOST_COLUMNS = 40
"""Columns in the picture; the table has all."""

DETAILED_COLUMNS = 3
"""Columns in the picture with the weight of evidence of their bins."""


def publish_information_values(run: StepRun, table: pd.DataFrame, labels: np.ndarray) -> None:
    """Publish the information value of each column of n training rows, given (n,) labels of both classes."""
    evidence = compute_all_evidence(table, labels, run.columns)
    run.publish_text(build_table(evidence, run.columns).to_csv(index=False, lineterminator="\n"), TABLE)
    run.publish_figure(plot_information_values(evidence, run.columns), PICTURE)


def compute_all_evidence(table: pd.DataFrame, labels: np.ndarray, columns: Columns) -> dict[str, Evidence]:
    """Return the evidence of each column by name, the largest information value first."""
    evidence = {name: compute_evidence(table[name], labels, columns.columns[name]) for name in columns.names}
    return dict(sorted(evidence.items(), key=lambda item: -item[1].value))


def build_table(evidence: dict[str, Evidence], columns: Columns) -> pd.DataFrame:
    """Return one row per column and filled bin: rows, defaults (class 1), weight of evidence, information values."""
    parts = []
    for name, column in evidence.items():
        values = {
            "column": name,
            "bin": column.bins.list_labels(columns.columns[name].get_label),
            "rows": column.rows.astype(int),
            "defaults": column.defaults.astype(int),
            "default_rate": column.defaults / np.maximum(column.rows, 1),
            "woe": column.woe,
            "iv": column.values,
            "iv_column": column.value,
            "iv_by_chance": column.chance,
        }
        parts.append(pd.DataFrame(values)[column.rows > 0])
    return pd.concat(parts, ignore_index=True)


def plot_information_values(evidence: dict[str, Evidence], columns: Columns) -> Figure:
    """Return bars of the information values, the largest on top, and the weights of evidence of the first columns."""
    names = list(evidence)[:MOST_COLUMNS]
    figure = Figure(figsize=(11.0, max(0.28 * len(names) + 1.4, 6.5)))
    # The outer labels are inside the saved box anyway. Matplotlib's constrained layout would take twice the time.
    left, right = figure.subplots(1, 2, gridspec_kw={"wspace": 0.04})
    places = range(len(names))
    left.barh(places, [evidence[name].value for name in names])
    left.plot([evidence[name].chance for name in names], places, "|", color="black", label="reached by chance in 5 %")
    for limit, _ in IV_BANDS[:-1]:
        left.axvline(limit, ls=":", lw=0.8, color="grey")
    left.set_yticks(places, [_shorten(name) for name in names])
    left.set(title="Information value, training split", ylim=(len(names) - 0.5, -0.5), xlim=(0, None))
    left.set_xlabel("information value; dotted: customary bands 0.02, 0.1, 0.3, 0.5")
    left.legend(loc="lower right")
    _plot_weights(right, evidence, columns)
    return figure


def _plot_weights(axes: Axes, evidence: dict[str, Evidence], columns: Columns) -> None:
    """Draw the bins of the first columns that have few enough of them, with a gap between two columns."""
    few_bins = [name for name, column in evidence.items() if (column.rows > 0).sum() <= MOST_BARS]
    labels: list[str] = []
    weights: list[float] = []
    for name in few_bins[:DETAILED_COLUMNS]:
        column = evidence[name]
        filled = column.rows > 0
        bins = column.bins.list_labels(columns.columns[name].get_label)
        labels += [f"{_shorten(name)}: {_shorten(bins[place])}" for place in np.flatnonzero(filled)] + [""]
        weights += [*column.woe[filled].tolist(), 0.0]
    places = range(len(labels) - 1)
    axes.barh(places, weights[:-1], color=["C3" if weight < 0 else "C0" for weight in weights[:-1]])
    axes.set_yticks([place for place in places if labels[place]], [label for label in labels if label], fontsize=7)
    axes.yaxis.tick_right()
    axes.axvline(0, color="black", lw=0.8)
    axes.set(title="Weight of evidence per bin", ylim=(max(len(places), 1) - 0.5, -0.5))
    axes.set_xlabel("weight of evidence; red: more defaults than on average")


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}..."

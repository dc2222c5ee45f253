"""The plots of an evaluation, by the name that each is published under."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

from evaluate.credit import CreditSheet, Cutoff, Decile
from evaluate.measure import Assessment, Effects
from stepkit.model import plots
from stepkit.table.columns import Column, Columns
from stepkit.table.groups import iter_groups

MOST_CURVES = 6


def iter_plots(
    assessed: Assessment, credit: CreditSheet, threshold: float, columns: Columns
) -> Iterator[tuple[str, Figure]]:
    """Yield (file name, figure) one at a time, without the curves that need two classes if the labels have one."""
    scored, classes = assessed.scored, columns.class_names
    labels, probability = scored.labels, scored.probability
    if labels.min() != labels.max():
        yield "roc_curve.png", plots.plot_roc_curve(labels, probability, "ROC, test split")
        yield (
            "precision_recall.png",
            plots.plot_precision_recall_curve(labels, probability, "Precision and recall, test split"),
        )
    yield "calibration.png", plots.plot_calibration(labels, probability, "Calibration, test split")
    yield (
        "score_distribution.png",
        plots.plot_score_distribution(labels, probability, threshold, "Predicted probabilities, test split", classes),
    )
    yield "confusion_matrix.png", plots.plot_confusion_matrix(labels, scored.predicted, "Test split", classes)
    drops = pd.DataFrame([column.to_dict() for column in assessed.importance]).set_index("label")
    yield "importance.png", plots.plot_permutation_importance(drops, "Importance of columns, test split")
    if assessed.effects:
        yield "effects.png", plot_effects(assessed.effects, columns)
    if credit.chosen:
        yield "gains.png", plot_gains(credit.gains)
        yield "strategy.png", plot_strategy(credit.cutoffs, credit.chosen)


def plot_effects(effects: Effects, columns: Columns) -> Figure:
    """Return a panel for each of the six columns with the largest mean absolute effect: effect by value.

    A numeric column has a line through the median effect of ten groups of rows with similar values.
    """
    strength = effects.strength
    names = sorted(strength, key=lambda name: -strength[name])[:MOST_CURVES]
    figure = Figure(figsize=(9.0, 2.8 * -(-len(names) // 3) + 0.4), layout="constrained")
    figure.suptitle("Effects of the strongest columns, test split")
    figure.supylabel("effect on the probability", fontsize="medium")
    panels = figure.subplots(-(-len(names) // 3), min(len(names), 3), sharey=True, squeeze=False).flat
    for axes, name in zip(panels, names, strict=False):
        column = columns.columns[name]
        effect = effects.values[:, effects.rows.columns.get_loc(name)]
        is_code = column.role == "categorical"
        (_draw_codes if is_code else _draw_numbers)(axes, effects.rows[name], effect, column)
        axes.axhline(0, color="black", lw=0.8)
        axes.set_title(plots.shorten_name(column.label or name, 36), fontsize="medium")
    for axes in list(figure.axes)[len(names) :]:
        axes.set_visible(False)
    return figure


def _draw_numbers(axes: Axes, values: pd.Series, effect: np.ndarray, _: Column) -> None:
    """Draw a point for each row, from the 1st to the 99th percentile of the values, and a line of medians."""
    numbers = values.to_numpy(float)
    shown = np.isfinite(numbers)
    if not shown.any():
        return
    low, high = np.quantile(numbers[shown], [0.01, 0.99])
    shown &= (numbers >= low) & (numbers <= high)
    axes.plot(numbers[shown], effect[shown], ".", alpha=0.3, ms=4)
    groups = pd.qcut(numbers[shown], 10, labels=False, duplicates="drop")
    medians = pd.DataFrame({"value": numbers[shown], "effect": effect[shown]}).groupby(groups).median()
    axes.plot(medians["value"], medians["effect"], color="C1")
    axes.tick_params(labelsize="small")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _draw_codes(axes: Axes, values: pd.Series, effect: np.ndarray, column: Column) -> None:
    """Draw a box for each code."""
    groups = [(label, effect[mask]) for _, label, mask in iter_groups(values, column, [])]
    axes.boxplot([group for _, group in groups], widths=0.6, flierprops={"marker": ".", "alpha": 0.3})
    names = [plots.shorten_name(label, 14) for label, _ in groups]
    axes.set_xticks(range(1, len(groups) + 1), names, rotation=30, ha="right", fontsize="small")


def plot_gains(gains: list[Decile]) -> Figure:
    """Return default rate, mean predicted probability and captured share of all defaults by decile of the score."""
    figure = Figure(figsize=(6.0, 4.8), layout="constrained")
    axes = figure.subplots()
    places = [decile.decile for decile in gains]
    axes.bar(places, [decile.default_rate for decile in gains], color="C0", label="default rate")
    axes.plot(
        places, [decile.mean_probability for decile in gains], "o", color="C1", label="mean predicted probability"
    )
    axes.plot(places, [decile.capture for decile in gains], "-", color="C2", label="defaults captured so far")
    axes.set(title="Gains, test split", xlabel="decile of the score, 1 is the riskiest", xticks=places, ylim=(0, 1.02))
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    figure.legend(loc="outside lower center")
    return figure


def plot_strategy(cutoffs: list[Cutoff], chosen: Cutoff) -> Figure:
    """Return two panels over the approval rate: default rate among the approved rows, and expected cost per row."""
    figure = Figure(figsize=(6.0, 4.8), layout="constrained")
    rates, costs = figure.subplots(2, 1, sharex=True)
    approved = [cutoff.approval_rate for cutoff in cutoffs]
    for axes, name in ((rates, "default_rate"), (costs, "cost_per_row")):
        axes.plot(approved, [getattr(cutoff, name) for cutoff in cutoffs])
        axes.axvline(chosen.approval_rate, ls="--", color="grey")
        axes.plot(
            chosen.approval_rate, getattr(chosen, name), "o", color="black", label=f"threshold {chosen.cutoff:.3f}"
        )
    rates.set(title="Strategy curve, test split", ylabel="default rate\namong approved")
    rates.set_ylim(bottom=0)
    costs.set(xlabel="approval rate", ylabel="expected cost\nper row")
    rates.legend(loc="upper left")
    for axis in (rates.yaxis, costs.xaxis):
        axis.set_major_formatter(PercentFormatter(1, 0))
    return figure

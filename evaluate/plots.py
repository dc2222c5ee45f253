"""The plots of an evaluation, by the name that each is published under."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from evaluate.credit import CreditSheet, Cutoff, Decile
from evaluate.measure import Assessment
from stepkit.model import plots


def iter_plots(
    assessed: Assessment, credit: CreditSheet, threshold: float, classes: plots.ClassNames = ("0", "1")
) -> Iterator[tuple[str, Figure]]:
    """Yield (file name, figure) one at a time, without the curves that need two classes if the labels have one."""
    scored = assessed.scored
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
    if credit.chosen:
        yield "gains.png", plot_gains(credit.gains)
        yield "strategy.png", plot_strategy(credit.cutoffs, credit.chosen)


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

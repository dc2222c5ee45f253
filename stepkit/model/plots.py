"""Plots of a model. Each function returns a figure for the caller to save."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn import metrics

from stepkit.model.statistics import CALIBRATION_BINS, assign_bins, compute_calibration_error

MOST_POINTS = 5000
MOST_BARS = 20
LONGEST_NAME, LONGEST_LABEL = 24, 36
"""Longest names of a class and of a column that are not shortened."""

ClassNames = tuple[str, str]
"""Names of class 0 and class 1: their values in the data set."""

# Matplotlib would read two dollar signs in the name of a column or class as a formula.
rcParams["text.parse_math"] = False


def _make_figure(height: float = 4.8, **texts: Any) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.0, height), layout="constrained")
    axes = figure.subplots()
    axes.set(**texts)
    return figure, axes


def _add_legend(figure: Figure) -> None:
    """Add a legend below the axes, where it hides no line."""
    figure.legend(loc="outside lower center")


def plot_confusion_matrix(
    labels: np.ndarray, predicted: np.ndarray, title: str, classes: ClassNames = ("0", "1")
) -> Figure:
    """Return shares of each true class, with the counts below them."""
    counts = metrics.confusion_matrix(labels, predicted, labels=[0, 1])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = _make_figure(title=title, xlabel="predicted class", ylabel="true class")
    # Square cells would leave the constrained layout too little room for long names of classes.
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        text = f"{share:.1%}\n{counts[row, column]:,}"
        axes.text(column, row, text, ha="center", va="center", color="white" if share > 0.5 else "black")
    names = [shorten_name(name, LONGEST_NAME) for name in classes]
    axes.set_xticks([0, 1], names)
    axes.set_yticks([0, 1], names)
    return figure


def _plot_curve(axes: Axes, x: np.ndarray, y: np.ndarray, label: str) -> None:
    """Draw at most `MOST_POINTS` evenly spaced points of a curve, with both ends. A page cannot show more."""
    indices = np.unique(np.linspace(0, len(x) - 1, MOST_POINTS).round().astype(int))
    axes.plot(x[indices], y[indices], label=label)


def plot_roc_curve(labels: np.ndarray, probability: np.ndarray, title: str) -> Figure:
    """Return the ROC curve of (n,) probabilities, with that of a random model."""
    false_positive, true_positive, _ = metrics.roc_curve(labels, probability)
    figure, axes = _make_figure(title=title, xlabel="false positive rate", ylabel="true positive rate")
    area = metrics.roc_auc_score(labels, probability)
    _plot_curve(axes, false_positive, true_positive, f"model (AUC {area:.4f})")
    axes.plot([0, 1], [0, 1], "--", color="grey", label="chance (AUC 0.5)")
    _add_legend(figure)
    return figure


def plot_precision_recall_curve(labels: np.ndarray, probability: np.ndarray, title: str) -> Figure:
    """Return precision by recall of (n,) probabilities, with the precision of a random model."""
    precision, recall, _ = metrics.precision_recall_curve(labels, probability)
    figure, axes = _make_figure(title=title, xlabel="recall", ylabel="precision", ylim=(0, 1.02))
    area = metrics.average_precision_score(labels, probability)
    _plot_curve(axes, recall, precision, f"model (average precision {area:.4f})")
    axes.axhline(labels.mean(), ls="--", color="grey", label=f"share of positives ({labels.mean():.3f})")
    _add_legend(figure)
    return figure


def plot_calibration(labels: np.ndarray, probability: np.ndarray, title: str) -> Figure:
    """Return the share of positives by mean probability per bin; the area of a dot grows with the rows in it."""
    bins = assign_bins(probability)
    rows = np.bincount(bins, minlength=CALIBRATION_BINS)
    filled = rows > 0
    mean, share = (
        np.bincount(bins, weights, CALIBRATION_BINS)[filled] / rows[filled] for weights in (probability, labels)
    )
    figure, axes = _make_figure(title=title, xlabel="mean predicted probability", ylabel="share of positives")
    axes.plot([0, 1], [0, 1], "--", color="grey", label="perfect")
    error = compute_calibration_error(labels, probability)
    axes.plot(mean, share, "-", color="C0", label=f"model (calibration error {error:.4f})")
    axes.scatter(mean, share, s=20 + 180 * rows[filled] / rows.max(), color="C0")
    _add_legend(figure)
    return figure


def plot_score_distribution(
    labels: np.ndarray, probability: np.ndarray, threshold: float, title: str, classes: ClassNames = ("0", "1")
) -> Figure:
    """Return a histogram of the probabilities for each class, each with area 1, and the threshold."""
    figure, axes = _make_figure(title=title, xlabel="predicted probability", ylabel="density", xlim=(0, 1))
    for label, color in ((0, "C0"), (1, "C3")):
        class_scores = probability[labels == label]
        if len(class_scores):
            text = f"class {classes[label]} ({len(class_scores):,} rows)"
            axes.hist(class_scores, bins=50, range=(0.0, 1.0), density=True, alpha=0.55, color=color, label=text)
    axes.axvline(threshold, ls="--", color="black", label=f"threshold {threshold:.3f}")
    _add_legend(figure)
    return figure


def plot_feature_importance(importance: pd.Series, title: str) -> Figure:
    """Return bars for the largest of (k,) importances, the largest on top."""
    figure, _ = _plot_bars(importance.nlargest(MOST_BARS)[::-1], title, "importance (share of the total)")
    return figure


def plot_permutation_importance(drops: pd.DataFrame, title: str) -> Figure:
    """Return bars with intervals for the largest of k rows (`value`, `low`, `high`) by label, the largest on top."""
    top = drops.nlargest(MOST_BARS, "value")[::-1]
    lengths = np.abs(top[["low", "high"]].to_numpy().T - top["value"].to_numpy())
    xlabel = "loss of AUC when the column is shuffled"
    figure, axes = _plot_bars(top["value"], title, xlabel, xerr=lengths, error_kw={"lw": 1, "alpha": 0.6})
    axes.axvline(0, color="black", lw=0.8)
    return figure


def _plot_bars(values: pd.Series, title: str, xlabel: str, **options: Any) -> tuple[Figure, Axes]:
    """Draw a bar for each value, the last one on top.

    Title and label belong to the figure, because the axes next to long names can be narrower than they are.
    """
    figure = Figure(figsize=(6.0, 0.28 * len(values) + 1.2), layout="constrained")
    figure.suptitle(title)
    figure.supxlabel(xlabel, fontsize="medium")
    axes = figure.subplots()
    places = range(len(values))
    axes.barh(places, values.to_numpy(), **options)
    axes.set_yticks(places, [shorten_name(str(name), LONGEST_LABEL) for name in values.index])
    return figure, axes


def shorten_name(name: str, longest: int) -> str:
    """Return a name with at most `longest` characters and, if it was longer, three dots."""
    return name if len(name) <= longest else f"{name[:longest]}..."

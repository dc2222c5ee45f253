"""Plots as functions that return a figure; whoever calls them saves it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import rcParams
from matplotlib.figure import Figure
from sklearn import metrics

from stepkit.model.statistics import CALIBRATION_BINS, bins_of, calibration_error

SIZE = (6.0, 4.8)
MOST_POINTS = 5000
LONGEST_NAME = 24

ClassNames = tuple[str, str]
"""The names of class 0 and class 1: the data set's own values."""

# names of columns and classes are shown as they are: matplotlib would read a pair of dollar signs as a formula
rcParams["text.parse_math"] = False


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, title: str, classes: ClassNames = ("0", "1")) -> Figure:
    """Shares of each true class, with the counts below them."""
    counts = metrics.confusion_matrix(labels, predicted, labels=[0, 1])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=SIZE)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        text = f"{share:.1%}\n{counts[row, column]:,}"
        axes.text(column, row, text, ha="center", va="center", color="white" if share > 0.5 else "black")
    names = [name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..." for name in classes]
    axes.set(title=title, xlabel="predicted class", ylabel="true class")
    axes.set_xticks([0, 1], names)
    axes.set_yticks([0, 1], names)
    return figure


def thinned(*curve: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return (k,) of each of some (n,) arrays, evenly chosen, both ends among them: more points than a page shows."""
    kept = np.unique(np.linspace(0, len(curve[0]) - 1, MOST_POINTS).round().astype(int))
    return tuple(one[kept] for one in curve)


def roc_curve(labels: np.ndarray, probability: np.ndarray, title: str) -> Figure:
    false_positive, true_positive, _ = metrics.roc_curve(labels, probability)
    false_positive, true_positive = thinned(false_positive, true_positive)
    area = metrics.roc_auc_score(labels, probability)
    figure = Figure(figsize=SIZE)
    axes = figure.subplots()
    axes.plot(false_positive, true_positive, label=f"model (AUC {area:.4f})")
    axes.plot([0, 1], [0, 1], "--", color="grey", label="chance (AUC 0.5)")
    axes.set(title=title, xlabel="false positive rate", ylabel="true positive rate")
    axes.legend(loc="lower right")
    return figure


def precision_recall_curve(labels: np.ndarray, probability: np.ndarray, title: str) -> Figure:
    precision, recall, _ = metrics.precision_recall_curve(labels, probability)
    precision, recall = thinned(precision, recall)
    area = metrics.average_precision_score(labels, probability)
    figure = Figure(figsize=SIZE)
    axes = figure.subplots()
    axes.plot(recall, precision, label=f"model (average precision {area:.4f})")
    axes.axhline(labels.mean(), ls="--", color="grey", label=f"share of positives ({labels.mean():.3f})")
    axes.set(title=title, xlabel="recall", ylabel="precision", ylim=(0, 1.02))
    axes.legend(loc="upper right")
    return figure


def feature_importance(importance: pd.Series, title: str, most: int = 20) -> Figure:
    """Bars for the `most` largest of (k,) importances, the largest on top."""
    top = importance.nlargest(most)[::-1]
    figure = Figure(figsize=(6.0, 0.28 * len(top) + 1.2))
    axes = figure.subplots()
    axes.barh([str(name) for name in top.index], top.to_numpy())
    axes.set(title=title, xlabel="importance (share of impurity removed)")
    return figure


def calibration(labels: np.ndarray, probability: np.ndarray, title: str) -> Figure:
    """Share of positives by mean probability per bin; the area of a dot grows with the rows in it."""
    bins = bins_of(probability)
    rows = np.bincount(bins, minlength=CALIBRATION_BINS)
    filled = rows > 0
    mean = np.bincount(bins, probability, CALIBRATION_BINS)[filled] / rows[filled]
    share = np.bincount(bins, labels, CALIBRATION_BINS)[filled] / rows[filled]
    figure = Figure(figsize=SIZE)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], "--", color="grey", label="perfect")
    error = calibration_error(labels, probability)
    axes.plot(mean, share, "-", color="C0", label=f"model (calibration error {error:.4f})")
    axes.scatter(mean, share, s=20 + 180 * rows[filled] / rows.max(), color="C0")
    axes.set(title=title, xlabel="mean predicted probability", ylabel="share of positives")
    axes.legend(loc="upper left")
    return figure


def score_distribution(
    labels: np.ndarray, probability: np.ndarray, threshold: float, title: str, classes: ClassNames = ("0", "1")
) -> Figure:
    """Histograms of the probabilities of each class, each with area 1, and the threshold between the classes."""
    figure = Figure(figsize=SIZE)
    axes = figure.subplots()
    for label, color in ((0, "C0"), (1, "C3")):
        of_class = probability[labels == label]
        if len(of_class):
            text = f"class {classes[label]} ({len(of_class):,} rows)"
            axes.hist(of_class, bins=50, range=(0.0, 1.0), density=True, alpha=0.55, color=color, label=text)
    axes.axvline(threshold, ls="--", color="black", label=f"threshold {threshold:.3f}")
    axes.set(title=title, xlabel="predicted probability", ylabel="density", xlim=(0, 1))
    axes.legend(loc="upper right")
    return figure


def permutation_importance(drops: pd.DataFrame, title: str, most: int = 20) -> Figure:
    """Bars with intervals for the `most` largest of k rows of `value`, `low` and `high`, by label, largest on top."""
    top = drops.nlargest(most, "value")[::-1]
    reach = np.abs(top[["low", "high"]].to_numpy().T - top["value"].to_numpy())
    figure = Figure(figsize=(6.0, 0.28 * len(top) + 1.2))
    axes = figure.subplots()
    axes.barh([str(name) for name in top.index], top["value"], xerr=reach, error_kw={"lw": 1, "alpha": 0.6})
    axes.axvline(0, color="black", lw=0.8)
    axes.set(title=title, xlabel="loss of AUC when the column is shuffled")
    return figure

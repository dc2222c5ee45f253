"""Decision threshold: the lowest probability that is predicted as class 1, chosen on scored rows."""

from __future__ import annotations

from typing import Literal

import numpy as np

from stepkit.settings.evaluate import Costs


def choose_threshold(
    rule: float | Literal["f1", "cost"],
    labels: np.ndarray,
    probability: np.ndarray,
    costs: Costs,
    weights: np.ndarray | None = None,
) -> float:
    """Return the threshold with the best F1 or the lowest cost on n rows.

    The threshold is above 0, below 1, and half way between two probabilities of the rows, so that rounding does not
    change a class. Of equally good thresholds the highest is chosen.

    Args:
        rule: "f1", "cost", or a number to return as it is.
        labels: (n,) of 0 and 1, both present.
        probability: (n,) of the positive class.
        costs: the cost matrix for "cost".
        weights: (n,) weights of the rows; None for equal weights.
    """
    if isinstance(rule, float | int):
        return float(rule)
    weights = np.ones(len(labels)) if weights is None else weights
    thresholds, true_positives, false_positives = list_thresholds(labels, probability, weights)
    positives = weights @ labels
    if rule == "f1":
        gain = 2 * true_positives / (true_positives + false_positives + positives)
    else:
        negatives = weights.sum() - positives
        gain = -costs.compute_total(
            negatives - false_positives, false_positives, positives - true_positives, true_positives
        )
    return float(thresholds[np.argmax(gain)])


def list_thresholds(
    labels: np.ndarray, probability: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return thresholds from the highest down, with the weights of true and false positives at each.

    No row is predicted positive at the first threshold, and every row at the last one, unless a probability is
    exactly 1 or 0.
    """
    order = np.argsort(-probability, kind="stable")
    falling, hits, rows = probability[order], np.cumsum((weights * labels)[order]), np.cumsum(weights[order])
    ends = np.flatnonzero(np.append(np.diff(falling) != 0, True))
    levels = np.concatenate([[1.0], falling[ends], [0.0]])
    thresholds = (levels[:-1] + levels[1:]) / 2
    true_positives = np.concatenate([[0], hits[ends]])
    false_positives = np.concatenate([[0], rows[ends]]) - true_positives
    usable = (levels[:-1] > levels[1:]) & (thresholds > 0) & (thresholds < 1)
    return thresholds[usable], true_positives[usable], false_positives[usable]

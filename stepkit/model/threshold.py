"""The probability from which a row is of class 1, chosen on rows that the model was not fitted to."""

from __future__ import annotations

from typing import Literal

import numpy as np

from stepkit.settings.evaluate import Costs


def choose_threshold(
    wanted: float | Literal["f1", "cost"], labels: np.ndarray, probability: np.ndarray, costs: Costs
) -> float:
    """Return the threshold with the best F1 or the least cost on n rows, or `wanted` itself if it is a number.

    It lies half way between two probabilities that occur, so that the last digit of neither decides a class. Of
    equally good ones it is the highest. All are between 0 and 1, both excluded.

    Args:
        labels: (n,) of 0 and 1, both present.
        probability: (n,) of the positive class.
    """
    if isinstance(wanted, float | int):
        return float(wanted)
    thresholds, hits, false_alarms = list_thresholds(labels, probability)
    positives = int(labels.sum())
    if wanted == "f1":
        gain = 2 * hits / (hits + false_alarms + positives)
    else:
        gain = -costs.compute_total(len(labels) - positives - false_alarms, false_alarms, positives - hits, hits)
    return float(thresholds[np.argmax(gain)])


def list_thresholds(labels: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return thresholds from the highest down, and the true and the false positives at each.

    At the first no row is predicted positive, at the last every row is, unless a probability of 1 or 0 forbids it.
    """
    order = np.argsort(-probability, kind="stable")
    falling, hits = probability[order], np.cumsum(labels[order])
    ends = np.flatnonzero(np.append(np.diff(falling) != 0, True))
    levels = np.concatenate([[1.0], falling[ends], [0.0]])
    thresholds = (levels[:-1] + levels[1:]) / 2
    found = np.concatenate([[0], hits[ends]])
    alarms = np.concatenate([[0], ends + 1]) - found
    usable = (levels[:-1] > levels[1:]) & (thresholds > 0) & (thresholds < 1)
    return thresholds[usable], found[usable], alarms[usable]

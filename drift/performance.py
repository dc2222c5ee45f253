"""Performance of a window: realised where labels are known, else estimated from calibrated probabilities (CBPE).

Confidence-based performance estimation: a row with the calibrated probability p is a positive with probability p, so
the labels of a window are a random draw, and with it every metric of the confusion matrix and of the ranking.
Source: Kivimäki, Białek, Kuberski and Nurminen, "Performance Estimation in Binary Classification Using Calibrated
Confidence" (2025), arXiv:2505.05295. It sees what a shift of the clients does to the model, and cannot see that
clients of the same kind begin to behave otherwise: for that there are the labels.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

Floats = npt.NDArray[np.float64]

DRAWS = 200
LEVEL = 0.95
SEED = 42
BINS = 10
FEWEST_OF_A_CLASS = 10
CLIP = 1e-6


@dataclass(frozen=True)
class Interval:
    """A value and the interval that holds the true one with probability `LEVEL`."""

    value: float
    lower: float
    upper: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def logit(probability: Floats) -> Floats:
    inside = np.clip(probability, CLIP, 1.0 - CLIP)
    scores: Floats = np.log(inside / (1.0 - inside))
    return scores


class Calibration:
    """Maps a model's scores to probabilities that mean what they say, learnt on rows it was not trained on (Platt)."""

    def __init__(self, probability: Floats, label: Floats) -> None:
        self._fitted = LogisticRegression(C=1e6).fit(_features(probability), label.astype(int))

    def __call__(self, probability: Floats) -> Floats:
        calibrated: Floats = self._fitted.predict_proba(_features(probability))[:, 1]
        return calibrated


def _features(probability: Floats) -> Floats:
    """Log-odds and their square: the second bends the curve where balanced class weights bent the scores."""
    score = logit(probability)
    return np.column_stack([score, score**2])


def auc(label: Floats, probability: Floats) -> float:
    return float(roc_auc_score(label, probability))


def estimated_auc(reference: tuple[Floats, Floats], current: Floats, seed: int = SEED) -> Interval | None:
    """Estimate the ROC AUC of n rows without labels, with an interval for the value that their labels would give.

    The interval holds what the draw of the labels leaves open, and that the calibration rests on a finite sample
    (bootstrapped with it).

    Args:
        reference: probability and label of m rows that the model was not trained on.
        current: probability of n rows.
    """
    probability, label = _known(*reference)
    if not _has_both(label) or len(current) < FEWEST_OF_A_CLASS:
        return None
    random = np.random.default_rng(seed)
    values = [_drawn_auc(random, probability, label, current) for _ in range(DRAWS)]
    return Interval(float(np.nanmean(values)), *_bounds(values))


def _drawn_auc(random: np.random.Generator, probability: Floats, label: Floats, current: Floats) -> float:
    rows = random.integers(0, len(label), len(label))
    chance = Calibration(probability[rows], label[rows])(current)
    drawn = (random.random(len(chance)) < chance).astype(float)
    return auc(drawn, current) if 0 < drawn.sum() < len(drawn) else np.nan


def realised_auc(probability: Floats, label: Floats, seed: int = SEED) -> Interval | None:
    """Return the ROC AUC of the rows whose label is known, with a bootstrap interval; None with too few of a class."""
    probability, label = _known(probability, label)
    if not _has_both(label):
        return None
    random = np.random.default_rng(seed)
    draws = (random.integers(0, len(label), len(label)) for _ in range(DRAWS))
    values = [auc(label[rows], probability[rows]) for rows in draws if 0 < label[rows].sum() < len(rows)]
    return Interval(auc(label, probability), *_bounds(values))


def _bounds(values: list[float]) -> tuple[float, float]:
    lower, upper = np.nanquantile(values, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return float(lower), float(upper)


def _known(probability: Floats, label: Floats) -> tuple[Floats, Floats]:
    known = np.isfinite(label) & np.isfinite(probability)
    return probability[known], label[known]


def _has_both(label: Floats) -> bool:
    return bool(min((label == 1).sum(), (label == 0).sum()) >= FEWEST_OF_A_CLASS)


def calibration_error(probability: Floats, label: Floats) -> float:
    """Expected calibration error: the mean distance of chance and outcome over bins of as many rows.

    Source: Naeini, Cooper and Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.
    """
    ranked = np.argsort(probability)
    bins = [part for part in np.array_split(ranked, BINS) if len(part)]
    gaps = [abs(probability[part].mean() - label[part].mean()) * len(part) for part in bins]
    return float(sum(gaps) / len(probability))


def quality_of(reference: tuple[Floats, Floats], probability: Floats, label: Floats) -> dict[str, float]:
    """Calibration of the labelled rows: how far calibrated probabilities and outcomes lie apart, as mean and by bin."""
    probability, label = _known(probability, label)
    if len(label) < BINS:
        return {}
    chance = Calibration(*_known(*reference))(probability)
    return {
        "brier_score": float(np.mean((chance - label) ** 2)),
        "calibration_error": calibration_error(chance, label),
        "expected_share": float(chance.mean()),
        "realised_share": float(label.mean()),
    }

"""Performance of a window: realised where labels are known, else estimated from calibrated probabilities (CBPE).

Confidence-based performance estimation: a row with the calibrated probability p is a positive with probability p, so
the labels of a window are a random draw, and with it every metric of the confusion matrix and of the ranking.
Source: Kivimäki, Białek, Kuberski and Nurminen, "Performance Estimation in Binary Classification Using Calibrated
Confidence" (2025), arXiv:2505.05295. It sees what a shift of the clients does to the model, and cannot see that
clients of the same kind begin to behave otherwise: for that there are the labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit
from scipy.stats import norm, rankdata
from sklearn.linear_model import LogisticRegression

from stepkit.model.statistics import CALIBRATION_BINS, Interval, compute_auc_interval, compute_calibration_error

Floats = npt.NDArray[np.float64]

DRAWS = 200
LEVEL = 0.95
SEED = 42
MIN_CLASS_ROWS = 10
CLIP = 1e-6


@dataclass(frozen=True)
class ScoredRows:
    """n rows that the model has not been trained on: its probability, and the true label; NaN where unknown."""

    probability: Floats
    label: Floats

    def select_labelled(self) -> ScoredRows:
        """Return the rows of which both are known."""
        known = np.isfinite(self.label) & np.isfinite(self.probability)
        return ScoredRows(self.probability[known], self.label[known])

    def has_both_classes(self) -> bool:
        return bool(min((self.label == 1).sum(), (self.label == 0).sum()) >= MIN_CLASS_ROWS)


def compute_lower_limit(reference: Interval, current: Interval, drop: float, alpha: float) -> float:
    """Return the value below which `current` is lower than `reference` by more than `drop`, with certainty.

    The error of either side counts; among windows that are lower by `drop` and no more, a share of `alpha` is below.
    """
    error = (reference.compute_standard_error(LEVEL) ** 2 + current.compute_standard_error(LEVEL) ** 2) ** 0.5
    return float(reference.value - drop - norm.ppf(1.0 - alpha) * error)


class Calibration:
    """Maps a model's scores to probabilities that mean what they say, learnt on rows it was not trained on (Platt)."""

    def __init__(self, known: ScoredRows) -> None:
        features = _build_features(known.probability)
        self._fitted = LogisticRegression(C=1e6).fit(features, known.label.astype(int))
        chance = self(known.probability)
        design = np.column_stack([np.ones(len(features)), features])
        self.coefficients: Floats = np.concatenate([self._fitted.intercept_, self._fitted.coef_[0]])
        self.covariance: np.ndarray = np.linalg.inv((design * (chance * (1.0 - chance))[:, None]).T @ design)
        """What the finite sample leaves open of the coefficients: the inverse of Fisher's information."""

    def __call__(self, probability: Floats) -> Floats:
        calibrated: Floats = self._fitted.predict_proba(_build_features(probability))[:, 1]
        return calibrated

    def draw(self, probability: Floats, draws: int, random: np.random.Generator) -> Floats:
        """Return (draws x n) calibrated probabilities, as other samples of the same size might have taught them."""
        coefficients = random.multivariate_normal(self.coefficients, self.covariance, draws)
        design = np.column_stack([np.ones(len(probability)), _build_features(probability)])
        drawn: Floats = expit(coefficients @ design.T)
        return drawn


def _build_features(probability: Floats) -> Floats:
    """Log-odds and their square: the second bends the curve where balanced class weights bent the scores."""
    score = logit(np.clip(probability, CLIP, 1.0 - CLIP))
    return np.column_stack([score, score**2])


def estimate_auc(reference: ScoredRows, current: Floats, seed: int = SEED) -> Interval | None:
    """Estimate the ROC AUC of n rows without labels, with an interval for the value that their labels would give.

    The interval holds what the draw of the labels leaves open, and that the calibration rests on a finite sample.

    Args:
        reference: m rows that the model was not trained on.
        current: probability of n rows.
    """
    known = reference.select_labelled()
    if not known.has_both_classes() or len(current) < 2 * MIN_CLASS_ROWS:
        return None
    random = np.random.default_rng(seed)
    chance = Calibration(known).draw(current, DRAWS, random)
    values = _compute_aucs((random.random(chance.shape) < chance).astype(float), current)
    lower, upper = np.nanquantile(values, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return Interval(float(np.nanmean(values)), float(lower), float(upper))


def _compute_aucs(labels: Floats, probability: Floats) -> Floats:
    """The AUC for each of k draws of n labels, by the sum of the positives' ranks (Mann-Whitney)."""
    positives = labels.sum(axis=1)
    pairs = positives * (labels.shape[1] - positives)
    above = labels @ rankdata(probability) - positives * (positives + 1) / 2.0
    values: Floats = np.divide(above, pairs, out=np.full(len(labels), np.nan), where=pairs > 0)
    return values


def compute_realised_auc(window: ScoredRows) -> Interval | None:
    """Return the ROC AUC of the rows whose label is known, with its interval; None with too few of a class."""
    known = window.select_labelled()
    if not known.has_both_classes():
        return None
    auc = compute_auc_interval(known.label, known.probability, LEVEL)
    return Interval(auc.value, max(auc.low, 0.0), min(auc.high, 1.0))


def compute_calibration(reference: ScoredRows, window: ScoredRows) -> dict[str, float]:
    """Return how far calibrated probabilities and outcomes of the labelled rows differ, as mean and by bin."""
    known = window.select_labelled()
    if len(known.label) < CALIBRATION_BINS:
        return {}
    chance = Calibration(reference.select_labelled())(known.probability)
    return {
        "brier_score": float(np.mean((chance - known.label) ** 2)),
        "calibration_error": compute_calibration_error(known.label, chance),
        "expected_share": float(chance.mean()),
        "realised_share": float(known.label.mean()),
    }

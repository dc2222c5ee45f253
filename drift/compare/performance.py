"""Performance of a window: realised on the labelled rows, or estimated from calibrated probabilities.

Confidence-based performance estimation (CBPE): a row with the calibrated probability p is positive with probability p.
The labels of a window are therefore random, and so is every metric of the confusion matrix and of the ranking.
The probabilities of a calibrated model are used as they are; those of another model are calibrated first.
Source: Kivimäki, Białek, Kuberski and Nurminen, "Performance Estimation in Binary Classification Using Calibrated
Confidence" (2025), arXiv:2505.05295. The estimate shows the effect of a shift of the inputs. It cannot show that
similar clients now behave differently; only labels can.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    """n rows that the model was not trained on: their probability and label, NaN where unknown.

    `is_calibrated` is True if the model was calibrated when it was trained (tag `calibration`).
    """

    probability: Floats
    label: Floats
    is_calibrated: bool = False

    def select_labelled(self) -> ScoredRows:
        """Return the rows whose probability and label are known."""
        is_labelled = np.isfinite(self.label) & np.isfinite(self.probability)
        return replace(self, probability=self.probability[is_labelled], label=self.label[is_labelled])

    def has_both_classes(self) -> bool:
        """Return True if each class has at least MIN_CLASS_ROWS rows."""
        return bool(min((self.label == 1).sum(), (self.label == 0).sum()) >= MIN_CLASS_ROWS)


def compute_lower_limit(reference: Interval, current: Interval, drop: float, alpha: float) -> float:
    """Return the limit below which `current` is certainly lower than `reference` by more than `drop`.

    The limit allows for the error of both sides: of windows that are lower by exactly `drop`, a share of `alpha` falls
    below the limit.
    """
    error = (reference.compute_standard_error(LEVEL) ** 2 + current.compute_standard_error(LEVEL) ** 2) ** 0.5
    return float(reference.value - drop - norm.ppf(1.0 - alpha) * error)


class Calibration:
    """Calibration of a model's scores by labelled rows that the model was not trained on.

    For a calibrated model it is the identity. For another model it is fitted on these rows (Platt scaling, with the
    square of the log-odds, which corrects for balanced class weights). In both cases it is as uncertain as these rows
    leave it.

    Attributes:
        coefficients: (k,) of 1, the log-odds and, for a model that is not calibrated, their square.
        covariance: (k, k) uncertainty of the coefficients: the inverse of the Fisher information.
    """

    def __init__(self, labelled: ScoredRows) -> None:
        if labelled.is_calibrated:
            self.coefficients: Floats = np.array([0.0, 1.0])
        else:
            features = _build_design(labelled.probability, 3)[:, 1:]
            fitted = LogisticRegression(C=1e6).fit(features, labelled.label.astype(int))
            self.coefficients = np.concatenate([fitted.intercept_, fitted.coef_[0]])
        chance, design = self(labelled.probability), _build_design(labelled.probability, len(self.coefficients))
        self.covariance: np.ndarray = np.linalg.pinv((design * (chance * (1.0 - chance))[:, None]).T @ design)

    def __call__(self, probability: Floats) -> Floats:
        """Return n calibrated probabilities."""
        calibrated: Floats = expit(_build_design(probability, len(self.coefficients)) @ self.coefficients)
        return calibrated

    def draw(self, probability: Floats, draws: int, random: np.random.Generator) -> Floats:
        """Return (draws x n) calibrated probabilities, each row from coefficients drawn within their uncertainty."""
        coefficients = random.multivariate_normal(self.coefficients, self.covariance, draws)
        drawn: Floats = expit(coefficients @ _build_design(probability, len(self.coefficients)).T)
        return drawn


def _build_design(probability: Floats, powers: int) -> Floats:
    """Return the powers 0 to `powers` - 1 of the log-odds (n x powers)."""
    score = logit(np.clip(probability, CLIP, 1.0 - CLIP))
    return np.column_stack([score**power for power in range(powers)])


def estimate_auc(reference: ScoredRows, current: Floats, seed: int = SEED) -> Interval | None:
    """Return the estimated ROC AUC of n rows without labels, with its 95 % interval; None with too few rows.

    The interval includes the randomness of the labels and the uncertainty of the calibration.

    Args:
        reference: m rows that the model was not trained on, which calibrate it, or show how well it is calibrated.
        current: probability of n rows.
        seed: seed of the random draws.
    """
    labelled = reference.select_labelled()
    if not labelled.has_both_classes() or len(current) < 2 * MIN_CLASS_ROWS:
        return None
    random = np.random.default_rng(seed)
    chance = Calibration(labelled).draw(current, DRAWS, random)
    values = _compute_aucs((random.random(chance.shape) < chance).astype(float), current)
    lower, upper = np.nanquantile(values, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return Interval(float(np.nanmean(values)), float(lower), float(upper))


def _compute_aucs(labels: Floats, probability: Floats) -> Floats:
    """Return the AUC for each of k draws of n labels, by the rank sum of the positives (Mann-Whitney)."""
    positives = labels.sum(axis=1)
    pairs = positives * (labels.shape[1] - positives)
    above = labels @ rankdata(probability) - positives * (positives + 1) / 2.0
    values: Floats = np.divide(above, pairs, out=np.full(len(labels), np.nan), where=pairs > 0)
    return values


def compute_realised_auc(window: ScoredRows) -> Interval | None:
    """Return the ROC AUC of the labelled rows with its 95 % interval; None if a class has too few rows."""
    labelled = window.select_labelled()
    if not labelled.has_both_classes():
        return None
    auc = compute_auc_interval(labelled.label, labelled.probability, LEVEL)
    return Interval(auc.value, max(auc.low, 0.0), min(auc.high, 1.0))


def compute_calibration(reference: ScoredRows, window: ScoredRows) -> dict[str, float]:
    """Return Brier score, calibration error and positive shares (expected, realised) of the labelled rows."""
    labelled = window.select_labelled()
    if len(labelled.label) < CALIBRATION_BINS:
        return {}
    chance = Calibration(reference.select_labelled())(labelled.probability)
    return {
        "brier_score": float(np.mean((chance - labelled.label) ** 2)),
        "calibration_error": compute_calibration_error(labelled.label, chance),
        "expected_share": float(chance.mean()),
        "realised_share": float(labelled.label.mean()),
    }

"""Calibration: from a classifier's score to a probability, fitted on scores of rows that it has not seen.

Platt's method (`sigmoid`) and isotonic regression are those of scikit-learn. Sources: Platt, Probabilistic Outputs for
Support Vector Machines, 1999; Zadrozny, Elkan, Transforming Classifier Scores into Accurate Multiclass Probability
Estimates, KDD 2002.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from stepkit.errors import TableUnfit

log = logging.getLogger("step")

NONE = "none"
FOLDS = 5
FEWEST_ROWS = {NONE: 2, "sigmoid": 50, "isotonic": 1000}
"""Rows with a held-out score that each calibration requires. Isotonic regression overfits with far fewer than 1,000.
Source: https://scikit-learn.org/stable/modules/calibration.html#isotonic"""
FEWEST_OF_CLASS = 5

ISOTONIC_STEPS = 100
"""Scores are rounded to this number of steps before isotonic regression. Between two scores that are almost equal, the
map could rise so steeply that the rounding of float32 in the ONNX graph changes the probability."""


@contextmanager
def use_one_core() -> Iterator[None]:
    """Let boosting and linear algebra compute on one core.

    Their threads wait for each other, boosting's at every node of every tree, so a fit takes several times longer if
    another process or fit uses a core.
    """
    with threadpool_limits(limits=1):
        yield


@dataclass(frozen=True)
class HeldOut:
    """Rows with a score by trees or a classifier that was not fitted on them.

    Attributes:
        labels: (m,) of 0 and 1.
        scores: (m,) decision function, or probability of class 1 if the classifier has none.
        weights: (m,) weight of each row, so that both classes keep their shares among all n rows. A forest with
            weighted classes draws the rare class more often and leaves fewer of its rows out of the bag.
        source: "out-of-bag" or "out-of-fold".
    """

    labels: np.ndarray
    scores: np.ndarray
    weights: np.ndarray
    source: str


def is_out_of_bag(classifier: Any) -> bool:
    """Return True if each tree of the classifier was fitted on a sample of the rows."""
    return isinstance(classifier, RandomForestClassifier) and classifier.bootstrap


def compute_held_out(classifier: Any, encoded: np.ndarray, labels: np.ndarray, method: str, seed: int) -> HeldOut:
    """Return scores of the training rows of a fitted classifier, each by trees that were not fitted on the row.

    A forest with bootstrap samples has out-of-bag scores; other classifiers are fitted again on four of five parts of
    the rows, for each part. A row in the sample of every tree has no score and is left out.

    Args:
        classifier: the classifier, fitted on these rows.
        encoded: (n, k) encoded features.
        labels: (n,) of 0 and 1, at least `FOLDS` of each unless the classifier has out-of-bag scores.
        method: its method that returns scores: decision_function or predict_proba.
        seed: seed of the five parts.
    """
    if is_out_of_bag(classifier):
        scores, source = compute_out_of_bag_scores(classifier, encoded), "out-of-bag"
    else:
        scores, source = compute_out_of_fold_scores(classifier, encoded, labels, method, seed), "out-of-fold"
    scored = np.isfinite(scores)
    shares = np.bincount(labels, minlength=2) / np.maximum(np.bincount(labels[scored], minlength=2), 1)
    return HeldOut(labels[scored], scores[scored], shares[labels[scored]], source)


def compute_out_of_bag_scores(forest: RandomForestClassifier, encoded: np.ndarray) -> np.ndarray:
    """Return (n,) the mean vote for class 1 of the trees that have not seen the row; NaN if every tree has seen it.

    Equal to `oob_decision_function_` of scikit-learn, which votes with one tree after the other on one core.
    """
    rows = np.ascontiguousarray(encoded, dtype=np.float32)

    def vote(tree: Any, sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        unseen = np.ones(len(rows), dtype=bool)
        unseen[sample] = False
        places = np.flatnonzero(unseen)
        if not len(places):
            return places, np.empty(0)
        return places, tree.predict_proba(rows[places], check_input=False)[:, 1]

    pairs = zip(forest.estimators_, forest.estimators_samples_, strict=True)
    sums, counts = np.zeros(len(rows)), np.zeros(len(rows))
    for places, votes in Parallel(n_jobs=forest.n_jobs, prefer="threads")(delayed(vote)(*pair) for pair in pairs):
        sums[places] += votes
        counts[places] += 1
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def compute_out_of_fold_scores(
    classifier: Any, encoded: np.ndarray, labels: np.ndarray, method: str, seed: int
) -> np.ndarray:
    """Return (n,) scores, each by a classifier that was fitted on the four of five parts without the row.

    Equal to `cross_val_predict` of scikit-learn. The five fits run at the same time, each on one core.
    """

    @use_one_core()
    def score(others: np.ndarray, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        fitted = clone(classifier).fit(encoded[others], labels[others])
        return part, getattr(fitted, method)(encoded[part])

    parts = StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(encoded, labels)
    scores = np.empty(len(labels))
    for part, values in Parallel(n_jobs=-1, prefer="threads")(delayed(score)(*pair) for pair in parts):
        scores[part] = values[:, 1] if values.ndim == 2 else values
    return scores


def verify_rows(labels: np.ndarray, calibration: str, source: str, remedy: str) -> None:
    """Raise TableUnfit, with the next step (`remedy`), if the held-out rows are too few for this calibration."""
    rows, rarest = len(labels), int(np.bincount(labels, minlength=2).min())
    fewest_of_class = 1 if calibration == NONE and source == "out-of-bag" else FEWEST_OF_CLASS
    if rows < FEWEST_ROWS[calibration] or rarest < fewest_of_class:
        raise TableUnfit(
            f"calibration: {calibration}: too few rows with an {source} score (found {rows:,}, {rarest:,} of the rarer "
            f"class; expected {FEWEST_ROWS[calibration]:,} or more, {fewest_of_class} of each class). {remedy}"
        )


def fit_calibrator(held_out: HeldOut, calibration: str) -> CalibratedClassifierCV:
    """Return the map from a score to a probability as a classifier of one column, the score.

    The map never falls. Where the share of positives falls with the score, the model ranks worse than chance, and the
    map is constant: the share of positives.
    """
    scores = round_scores(held_out.scores) if calibration == "isotonic" else held_out.scores
    calibrator = _fit_map(scores, held_out, calibration)
    lowest, highest = calibrator.predict_proba(np.array([[scores.min()], [scores.max()]]))[:, 1]
    if calibration == "sigmoid" and not lowest < highest:
        calibrator = _fit_map(np.zeros_like(scores), held_out, calibration)
    if not lowest < highest:
        log.warning(
            "calibration: %s: the model ranks no better than chance on %s %s rows, so it predicts the share of "
            "positives for every row",
            calibration,
            f"{len(scores):,}",
            held_out.source,
        )
    return calibrator


def _fit_map(scores: np.ndarray, held_out: HeldOut, calibration: str) -> CalibratedClassifierCV:
    """Fit scikit-learn's calibration on scores; it takes them from a classifier, here a linear one: 1 * score + 0."""
    identity = LogisticRegression()
    identity.coef_, identity.intercept_, identity.classes_ = np.ones((1, 1)), np.zeros(1), np.array([0, 1])
    all_rows = np.arange(len(scores))
    calibrator = CalibratedClassifierCV(FrozenEstimator(identity), method=calibration, cv=[(all_rows, all_rows)])
    with warnings.catch_warnings():
        # The weights are for the calibration only, because the classifier is fitted already.
        warnings.filterwarnings("ignore", "Since FrozenEstimator does not appear to accept sample_weight")
        weights = None if (held_out.weights == 1).all() else held_out.weights
        calibrator.fit(scores[:, None], held_out.labels, sample_weight=weights)
    calibrator.cv = None  # the numbers of the rows are not part of the model
    return calibrator


def round_scores(scores: np.ndarray) -> np.ndarray:
    """Return (m,) scores, rounded to `ISOTONIC_STEPS` steps between the lowest and the highest."""
    low, step = scores.min(), np.ptp(scores) / ISOTONIC_STEPS
    return low + np.round((scores - low) / step) * step if step > 0 else scores


def get_score_method(classifier: Any, calibration: str) -> str:
    """Return the method whose values scikit-learn calibrates, or the one that returns probabilities."""
    return "decision_function" if calibration != NONE and hasattr(classifier, "decision_function") else "predict_proba"


def to_calibrated(classifier: Any, calibrator: CalibratedClassifierCV) -> CalibratedClassifierCV:
    """Return the fitted classifier with its calibration, as scikit-learn builds it with `ensemble=False`."""
    calibrated = copy.deepcopy(calibrator)
    calibrated.estimator = clone(classifier)
    calibrated.calibrated_classifiers_[0].estimator = classifier
    calibrated.n_features_in_ = classifier.n_features_in_
    return calibrated

"""stepkit.model.metrics, on a case that is small enough to compute by hand."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from scipy.stats import ks_2samp

from stepkit.model.metrics import Scored, WeightedMetrics, compute_metrics, count_confusion
from stepkit.model.statistics import compute_calibration_error
from stepkit.settings.evaluate import Costs

LABELS = np.array([0, 0, 1, 1])
PROBABILITY = np.array([0.1, 0.4, 0.35, 0.8])


def test_scores_of_four_rows_are_as_computed_by_hand() -> None:
    metrics = compute_metrics(LABELS, PROBABILITY, PROBABILITY >= 0.5)
    assert metrics == {
        "ks_statistic": pytest.approx(1 / 2),  # at 0.8: one of two positives, no negative
        "calibration_error": pytest.approx((0.1 + 0.4 + 0.65 + 0.2) / 4),  # each row has a bin of its own
        "roc_auc": pytest.approx(3 / 4),  # one of four pairs is ranked the wrong way round
        "gini": pytest.approx(2 * 3 / 4 - 1),
        "average_precision": pytest.approx(0.5 * 1 + 0.5 * 2 / 3),
        "log_loss": pytest.approx(-(log(0.9) + log(0.6) + log(0.35) + log(0.8)) / 4),
        "brier_score": pytest.approx((0.1**2 + 0.4**2 + 0.65**2 + 0.2**2) / 4),
        "accuracy": pytest.approx(3 / 4),
        "precision": pytest.approx(1.0),
        "recall": pytest.approx(1 / 2),
        "f1": pytest.approx(2 / 3),
    }


def test_precision_is_0_and_no_warning_when_no_row_is_predicted_positive() -> None:
    metrics = compute_metrics(LABELS, PROBABILITY, PROBABILITY >= 0.9)
    assert (metrics["precision"], metrics["recall"], metrics["f1"]) == (0.0, 0.0, 0.0)


def test_scores_are_plain_numbers_for_json_and_mlflow() -> None:
    assert {type(value) for value in compute_metrics(LABELS, PROBABILITY, PROBABILITY >= 0.5).values()} == {float}


@pytest.mark.parametrize("seed", range(5))
def test_figures_of_weighted_rows_are_those_of_the_plain_functions(seed: int) -> None:
    """Weights stand for rows that occur several times; equal probabilities are frequent."""
    random = np.random.default_rng(seed)
    labels, probability, times = random.integers(0, 2, 300), random.random(300).round(2), random.integers(0, 4, 300)
    rows = WeightedMetrics(Scored(labels, probability, probability >= 0.5), Costs())
    weights = np.zeros(300)
    weights[rows.place] = times
    metrics = {name: float(value[0]) for name, value in rows.compute(weights[None]).items()}
    labels, probability = np.repeat(labels, times), np.repeat(probability, times)
    assert metrics["calibration_error"] == pytest.approx(compute_calibration_error(labels, probability))
    assert metrics["ks_statistic"] == pytest.approx(
        ks_2samp(probability[labels == 1], probability[labels == 0]).statistic
    )


def test_costs_are_counted_by_hand() -> None:
    costs = Costs(true_negative=0, false_positive=2, false_negative=7, true_positive=1)
    labels, predicted = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 1, 1, 0, 1, 1])
    assert count_confusion(labels, predicted) == {"tn": 1, "fp": 2, "fn": 1, "tp": 2}
    assert costs.compute_per_row(labels, predicted).tolist() == [0, 2, 2, 7, 1, 1]
    assert costs.compute_total(1, 2, 1, 2) == 13


@pytest.mark.parametrize(("label", "undefined"), [(0, {"recall", "f1"}), (1, set[str]())])
def test_metrics_that_need_both_classes_are_nan_with_one_class(label: int, undefined: set[str]) -> None:
    metrics = compute_metrics(np.full(4, label), PROBABILITY, PROBABILITY >= 0.5)
    missing = {name for name, value in metrics.items() if np.isnan(value)}
    assert missing == {"roc_auc", "gini", "average_precision", "ks_statistic"} | undefined

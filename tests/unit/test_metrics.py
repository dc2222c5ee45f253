"""stepkit.metrics: a case small enough to be computed by hand."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from stepkit.metrics import scores

LABELS = np.array([0, 0, 1, 1])
PROBABILITY = np.array([0.1, 0.4, 0.35, 0.8])


def test_scores_of_four_rows_are_as_computed_by_hand() -> None:
    found = scores(LABELS, PROBABILITY, PROBABILITY >= 0.5)
    assert found == {
        "roc_auc": pytest.approx(3 / 4),  # of four pairs, one is ranked the wrong way round
        "average_precision": pytest.approx(0.5 * 1 + 0.5 * 2 / 3),
        "log_loss": pytest.approx(-(log(0.9) + log(0.6) + log(0.35) + log(0.8)) / 4),
        "brier_score": pytest.approx((0.1**2 + 0.4**2 + 0.65**2 + 0.2**2) / 4),
        "accuracy": pytest.approx(3 / 4),
        "precision": pytest.approx(1.0),
        "recall": pytest.approx(1 / 2),
        "f1": pytest.approx(2 / 3),
    }


def test_precision_is_0_and_no_warning_when_no_row_is_predicted_positive() -> None:
    found = scores(LABELS, PROBABILITY, PROBABILITY >= 0.9)
    assert (found["precision"], found["recall"], found["f1"]) == (0.0, 0.0, 0.0)


def test_scores_are_plain_numbers_for_json_and_mlflow() -> None:
    assert {type(value) for value in scores(LABELS, PROBABILITY, PROBABILITY >= 0.5).values()} == {float}

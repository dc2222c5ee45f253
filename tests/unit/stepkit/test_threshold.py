"""stepkit.model.threshold: the best F1 or the lowest cost, as found by trying every threshold."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from stepkit.model.threshold import choose_threshold
from stepkit.settings.evaluate import Costs

LABELS = np.array([0, 0, 1, 0, 1, 1])
PROBABILITY = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.9])
COSTS = Costs(false_positive=1, false_negative=5)


def test_a_number_is_used_as_the_threshold() -> None:
    assert choose_threshold(0.3, LABELS, PROBABILITY, COSTS) == 0.3


def test_the_best_f1_lies_half_way_between_two_probabilities() -> None:
    """Threshold 0.3: 3 of 3 positives with 1 false positive, F1 6/7; threshold 0.6: 2 of 3 with none, F1 4/5."""
    assert choose_threshold("f1", LABELS, PROBABILITY, COSTS) == pytest.approx(0.25)


@pytest.mark.parametrize(("false_negative", "threshold"), [(5, 0.25), (0.4, 0.5), (0.0, 0.95)])
def test_the_dearer_a_miss_the_lower_the_threshold(false_negative: float, threshold: float) -> None:
    costs = Costs(false_positive=1, false_negative=false_negative)
    assert choose_threshold("cost", LABELS, PROBABILITY, costs) == pytest.approx(threshold)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("decimals", [1, 6], ids=["many ties", "no ties"])
def test_no_other_threshold_is_better(seed: int, decimals: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, 60)
    probability = np.clip(random.normal(0.3 + 0.2 * labels, 0.25), 0, 1).round(decimals)
    tried = [*np.unique(probability), 1.1]  # all thresholds between two of them give the same classes
    best_f1 = choose_threshold("f1", labels, probability, COSTS)
    assert f1_score(labels, probability >= best_f1) >= max(f1_score(labels, probability >= limit) for limit in tried)
    cheapest = choose_threshold("cost", labels, probability, COSTS)
    costs = [COSTS.compute_per_row(labels, probability >= threshold).sum() for threshold in (cheapest, *tried)]
    assert costs[0] == min(costs)


@pytest.mark.parametrize("probability", [[1.0, 1.0], [0.0, 0.0], [0.0, 1.0], [0.5, 0.5]], ids=str)
def test_the_threshold_lies_between_0_and_1_whatever_the_probabilities(probability: list[float]) -> None:
    for rule in ("f1", "cost"):
        chosen = choose_threshold(rule, np.array([0, 1]), np.array(probability), COSTS)  # type: ignore[arg-type]  # mypy widens the words
        assert 0 < chosen < 1

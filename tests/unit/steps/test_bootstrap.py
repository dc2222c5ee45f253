"""evaluate.bootstrap: metrics and intervals of resamples, compared with other implementations."""

from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn import metrics as theirs

from evaluate import bootstrap
from evaluate.bootstrap import Bootstrap
from stepkit.model.metrics import Scored, WeightedMetrics, compute_metrics
from stepkit.model.statistics import Interval, compute_auc_difference
from stepkit.settings.evaluate import Costs

HOW = Bootstrap(resamples=1000, seed=42, level=0.95, costs=Costs())


def make_scored(count: int, seed: int, separation: float = 1.1, decimals: int = 12, share: float = 0.25) -> Scored:
    """Return rows whose two classes have normal scores `separation` apart, converted to probabilities."""
    random = np.random.default_rng(seed)
    labels = (random.random(count) < share).astype(int)
    probability = (1 / (1 + np.exp(1 - random.normal(separation * labels)))).round(decimals)
    return Scored(labels, probability, (probability >= 0.5).astype(int))


def add_noise(scored: Scored, seed: int, noise: float) -> Scored:
    """Return the predictions of another model for the same rows: the same logits with noise."""
    logits = np.log(scored.probability / (1 - scored.probability))
    logits = logits + np.random.default_rng(seed).normal(0, noise, len(scored))
    probability = 1 / (1 + np.exp(-logits))
    return Scored(scored.labels, probability, (probability >= 0.5).astype(int))


@pytest.mark.parametrize("decimals", [12, 1], ids=["no ties", "many ties"])
def test_weighted_metrics_are_those_of_scikit_learn(decimals: int) -> None:
    scored = make_scored(400, seed=1, decimals=decimals)
    weights = np.random.default_rng(2).multinomial(400, np.full(400, 1 / 400), size=3)
    model = WeightedMetrics(scored, Costs())
    arranged = np.empty((3, 400), dtype=np.float32)
    arranged[:, model.place] = weights
    expected = {
        theirs.roc_auc_score: ("roc_auc", scored.probability),
        theirs.average_precision_score: ("average_precision", scored.probability),
        theirs.log_loss: ("log_loss", scored.probability),
        theirs.brier_score_loss: ("brier_score", scored.probability),
        theirs.precision_score: ("precision", scored.predicted),
        theirs.recall_score: ("recall", scored.predicted),
        theirs.f1_score: ("f1", scored.predicted),
        theirs.accuracy_score: ("accuracy", scored.predicted),
    }
    metrics = model.compute(arranged)
    for score, (name, answers) in expected.items():
        values = [score(scored.labels, answers, sample_weight=weight) for weight in weights]
        assert metrics[name] == pytest.approx(values, abs=2e-6), name


def test_weights_mean_the_same_as_repeated_rows() -> None:
    """Compare metrics that scikit-learn lacks with stepkit.metrics on rows that are repeated as often as drawn."""
    scored = make_scored(300, seed=4, decimals=2)
    drawn = np.random.default_rng(5).integers(0, 300, 300)
    model = WeightedMetrics(scored, Costs(false_positive=2, false_negative=3))
    weights = np.zeros((1, 300))
    np.add.at(weights[0], model.place[drawn], 1)
    repeated = scored.select(drawn)
    expected = compute_metrics(repeated.labels, repeated.probability, repeated.predicted)
    costs = Costs(false_positive=2, false_negative=3).compute_per_row(repeated.labels, repeated.predicted)
    expected["expected_cost"] = float(costs.mean())
    assert {name: values[0] for name, values in model.compute(weights).items()} == pytest.approx(expected)


def test_the_interval_is_that_of_another_bootstrap() -> None:
    """Compare with ROC AUC as the share of correctly ranked pairs, and multinomial weights, in 4,000 resamples."""
    scored = make_scored(250, seed=6)
    weights = np.random.default_rng(7).multinomial(250, np.full(250, 1 / 250), size=4000)
    above, below = (scored.labels == label for label in (1, 0))
    right = scored.probability[above][:, None] > scored.probability[below][None, :]
    aucs = np.einsum("bp,pn,bn->b", weights[:, above], right, weights[:, below], optimize=True)
    aucs = aucs / (weights[:, above].sum(axis=1) * weights[:, below].sum(axis=1))
    errors = weights @ (scored.probability - scored.labels) ** 2 / 250
    intervals = Bootstrap(4000, 1, 0.9, Costs()).compute_intervals(scored)
    for name, drawn in (("roc_auc", aucs), ("brier_score", errors)):
        low, high = np.quantile(drawn, [0.05, 0.95])
        assert (intervals[name].low, intervals[name].high) == pytest.approx((low, high), abs=0.06 * (high - low))


def test_a_seed_gives_the_same_interval_and_another_seed_another() -> None:
    scored = make_scored(200, seed=8)
    same, other_seed = HOW.compute_intervals(scored), Bootstrap(1000, 43, 0.95, Costs()).compute_intervals(scored)
    assert HOW.compute_intervals(scored) == same
    assert other_seed["roc_auc"].value == same["roc_auc"].value
    assert other_seed["roc_auc"].low != same["roc_auc"].low


def test_the_difference_of_a_model_to_itself_is_nothing() -> None:
    scored = make_scored(500, seed=9, decimals=2)
    assert set(HOW.compute_differences(scored, scored).values()) == {Interval(0.0, 0.0, 0.0)}


def test_the_paired_bootstrap_agrees_with_delong() -> None:
    first = make_scored(3000, seed=12)
    second = add_noise(first, seed=13, noise=0.5)
    delong = compute_auc_difference(first.labels, first.probability, second.probability)
    ours_to_others = HOW.compute_differences(first, second)["roc_auc"]
    width = delong.high - delong.low
    assert ours_to_others.value == pytest.approx(delong.value)
    assert (ours_to_others.low, ours_to_others.high) == pytest.approx((delong.low, delong.high), abs=0.12 * width)
    unpaired = HOW.compute_intervals(first)["roc_auc"]
    assert width < 0.7 * (unpaired.high - unpaired.low), "else pairing would be of no use"


def test_a_large_table_has_the_narrow_interval_of_all_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw from 2,000 of 32,000 rows: the interval is as wide as DeLong's for all rows, a quarter of that for 2,000."""
    monkeypatch.setattr(bootstrap, "MOST_ROWS", 2000)
    first = make_scored(32_000, seed=14)
    second = add_noise(first, seed=15, noise=0.5)
    delong = compute_auc_difference(first.labels, first.probability, second.probability)
    interval = HOW.compute_differences(first, second)["roc_auc"]
    assert interval.value == pytest.approx(delong.value)
    assert interval.high - interval.low == pytest.approx(delong.high - delong.low, rel=0.2)


def test_gini_and_its_limits_are_those_of_the_auc_on_another_scale() -> None:
    intervals = HOW.compute_intervals(make_scored(500, seed=19))
    scaled = [2 * value - 1 for value in intervals["roc_auc"].to_dict().values()]
    assert [*intervals["gini"].to_dict().values()] == pytest.approx(scaled)


def test_what_cannot_be_computed_has_neither_value_nor_interval() -> None:
    scored = make_scored(50, seed=16, share=0.0)
    intervals = HOW.compute_intervals(scored)
    assert np.isnan([intervals["roc_auc"].value, intervals["roc_auc"].low, intervals["recall"].value]).all()
    assert np.isfinite([intervals["brier_score"].low, intervals["accuracy"].high]).all()


def test_a_metric_that_most_resamples_lack_has_a_value_and_no_interval() -> None:
    """Use two rows, one of each class: half of the resamples contain both classes."""
    scored = Scored(np.array([0, 1]), np.array([0.2, 0.7]), np.array([0, 1]))
    interval = Bootstrap(400, 3, 0.95, Costs()).compute_intervals(scored)["roc_auc"]
    assert interval.value == 1.0
    one_of_twenty = make_scored(20, seed=17, share=0.0)
    one_of_twenty.labels[0] = 1
    assert np.isfinite(HOW.compute_intervals(one_of_twenty)["roc_auc"].low)


def test_a_thousand_resamples_of_the_test_split_take_less_than_three_seconds() -> None:
    """Measure the CPU time of this process, which other processes do not affect."""
    scored = make_scored(8990, seed=18)
    began = time.process_time()
    HOW.compute_intervals(scored)
    assert time.process_time() - began < 3

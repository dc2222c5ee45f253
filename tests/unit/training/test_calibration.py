"""training.calibration: scores of rows that the classifier has not seen, and their map to a probability."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline

import gradient_boosting.run
import logistic_regression.run
import random_forest.run
from stepkit.errors import TableUnfit
from stepkit.model.threshold import choose_threshold
from stepkit.settings.evaluate import Costs
from stepkit.settings.model import (
    Boosting,
    Forest,
    GradientBoostingSettings,
    LogisticRegressionSettings,
    ModelSettings,
    RandomForestSettings,
)
from stepkit.table.columns import Column, Columns
from training.calibration import HeldOut, compute_held_out, fit_calibrator, to_calibrated
from training.export import TRUSTED_TYPES, compute_largest_difference
from training.kind import Fitted, ModelKind
from training.onnx_graph import to_graph
from training.pipeline import CLASSIFIER, ENCODE, compute_importances
from training.train import train_model

FOREST = random_forest.run.KIND
COLUMNS = Columns(
    source_target="default",
    target="default",
    columns={
        "amount": Column(type="float"),
        "purpose": Column(type="text", role="categorical"),
        "region": Column(role="categorical"),
        "age": Column(),
    },
)
CALIBRATIONS = ["sigmoid", "isotonic"]


def make_table(count: int, seed: int = 3) -> pd.DataFrame:
    """Return rows with numbers, codes, texts and gaps; a quarter is of class 1."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "amount": rng.lognormal(8, 1, count),
            "purpose": rng.choice(["car", "house", ""], count),
            "region": rng.choice([1.0, 2.0, np.nan], count),
            "age": rng.integers(18, 80, count).astype(float),
        }
    )
    table.loc[::11, "amount"] = np.nan
    score = np.log(table["amount"].fillna(3000)) / 2 + (table["purpose"] == "car") - table["age"] / 40
    return table.assign(default=(score + rng.logistic(size=count) > 4.8).astype(int))


TABLE, LATER = make_table(1600), make_table(1500, seed=4)
ROWS, LABELS = TABLE[COLUMNS.names], TABLE["default"].to_numpy()


def make_settings(calibration: str = "sigmoid", trees: int = 120, **values: Any) -> RandomForestSettings:
    forest = Forest(n_estimators=trees, max_depth=6, class_weight="balanced", n_jobs=1, **values.pop("forest", {}))
    return RandomForestSettings.model_validate({"random_forest": forest, "calibration": calibration, **values})


def fit(model_settings: RandomForestSettings, rows: int = len(TABLE)) -> Fitted:
    return FOREST.fit_with_held_out(model_settings, COLUMNS, ROWS[:rows], LABELS[:rows], 42)


@pytest.fixture(scope="module")
def fitted() -> dict[str, Fitted]:
    """The same forest with each calibration."""
    return {calibration: fit(make_settings(calibration)) for calibration in ("none", *CALIBRATIONS)}


def make_held_out(scores: np.ndarray, labels: np.ndarray) -> HeldOut:
    return HeldOut(labels, scores, np.ones(len(labels)), "out-of-bag")


def score_later(model: Pipeline) -> np.ndarray:
    probability: np.ndarray = model.predict_proba(LATER[COLUMNS.names])[:, 1]
    return probability


def test_out_of_bag_scores_are_those_of_scikit_learn(fitted: dict[str, Fitted]) -> None:
    pipeline, held_out = fitted["none"].pipeline, fitted["none"].held_out
    forest = clone(pipeline.named_steps[CLASSIFIER]).set_params(oob_score=True)
    forest.fit(pipeline.named_steps[ENCODE].transform(ROWS).astype(np.float32), LABELS)
    assert held_out is not None
    np.testing.assert_allclose(held_out.scores, forest.oob_decision_function_[:, 1], atol=1e-12)


def test_no_tree_that_votes_on_a_row_was_fitted_on_it() -> None:
    """Labels that are chance: a tree without limits knows its own rows, and ranks others no better than chance."""
    rng = np.random.default_rng(1)
    features, labels = rng.normal(size=(800, 4)), rng.integers(0, 2, 800)
    for bootstrap in (True, False):
        forest = RandomForestClassifier(40, bootstrap=bootstrap, random_state=1).fit(features, labels)
        held_out = compute_held_out(forest, features, labels, "predict_proba", 1)
        assert roc_auc_score(labels, forest.predict_proba(features)[:, 1]) > 0.99
        assert 0.42 < roc_auc_score(held_out.labels, held_out.scores) < 0.58


@pytest.mark.parametrize("method", ["decision_function", "predict_proba"])
def test_other_classifiers_are_scored_by_a_fit_without_the_fifth_of_the_row(method: str) -> None:
    features, labels = ROWS[["age"]].to_numpy(), LABELS
    boosting = GradientBoostingClassifier(n_estimators=5, random_state=1).fit(features, labels)
    held_out = compute_held_out(boosting, features, labels, method, 7)
    assert (held_out.source, len(held_out.scores), set(held_out.weights)) == ("out-of-fold", len(labels), {1.0})
    train, test = next(StratifiedKFold(5, shuffle=True, random_state=7).split(features, labels))
    expected = getattr(clone(boosting).fit(features[train], labels[train]), method)(features[test])
    np.testing.assert_allclose(held_out.scores[test], expected[:, 1] if expected.ndim == 2 else expected)


def test_rows_in_the_sample_of_every_tree_are_left_out_and_the_classes_keep_their_shares() -> None:
    """A forest with balanced classes draws the rare class more often: few of its rows are out of the bag."""
    held_out = fit(make_settings("sigmoid", trees=4)).held_out
    assert held_out is not None
    assert 50 < len(held_out.scores) < len(TABLE)
    assert np.isfinite(held_out.scores).all()
    assert held_out.labels.mean() < LABELS.mean() - 0.03
    assert np.average(held_out.labels, weights=held_out.weights) == pytest.approx(LABELS.mean())


@pytest.mark.parametrize("trees", [4, 120])
@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_the_mean_probability_is_the_share_of_positives(calibration: str, trees: int) -> None:
    model = fit(make_settings(calibration, trees)).pipeline
    assert score_later(model).mean() == pytest.approx(LATER["default"].mean(), abs=0.04)


def test_a_calibrated_probability_is_closer_to_the_labels(fitted: dict[str, Fitted]) -> None:
    labels = LATER["default"].to_numpy()
    none, sigmoid, isotonic = (
        ((score_later(fitted[calibration].pipeline) - labels) ** 2).mean() for calibration in ("none", *CALIBRATIONS)
    )
    assert max(sigmoid, isotonic) < none - 0.01


def test_a_rising_map_leaves_the_auc_as_it_is(fitted: dict[str, Fitted]) -> None:
    raw, calibrated = score_later(fitted["none"].pipeline), score_later(fitted["sigmoid"].pipeline)
    assert roc_auc_score(LATER["default"], calibrated) == roc_auc_score(LATER["default"], raw)
    assert (np.argsort(calibrated, kind="stable") == np.argsort(raw, kind="stable")).all()


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@given(
    pairs=st.lists(
        st.tuples(st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1, width=32)), st.booleans()),
        min_size=10,
        max_size=60,
    ).filter(lambda pairs: 2 <= sum(label for _, label in pairs) <= len(pairs) - 2)
)
@settings(max_examples=60, deadline=None)
def test_no_map_falls_or_leaves_the_range_of_probabilities(calibration: str, pairs: list[tuple[float, bool]]) -> None:
    scores, labels = (np.array(values) for values in zip(*pairs, strict=True))
    calibrator = fit_calibrator(make_held_out(scores.astype(float), labels.astype(int)), calibration)
    grid = np.sort(np.r_[scores, np.linspace(-0.1, 1.1, 50)])
    probability = calibrator.predict_proba(grid[:, None])[:, 1]
    assert ((probability >= 0) & (probability <= 1)).all()
    assert (np.diff(probability) >= -1e-12).all()


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_a_model_worse_than_chance_gets_one_probability_and_is_not_inverted(
    calibration: str, caplog: pytest.LogCaptureFixture
) -> None:
    labels = np.repeat([1, 0, 0, 0], 300)
    calibrator = fit_calibrator(make_held_out(np.linspace(0, 1, 1200), labels), calibration)
    probability = calibrator.predict_proba(np.array([[0.0], [0.3], [1.0]]))[:, 1]
    assert probability == pytest.approx(0.25, abs=0.001)
    assert len(set(probability)) == 1
    assert f"calibration: {calibration}: the model ranks no better than chance on 1,200 out-of-bag rows" in caplog.text


def test_a_model_better_than_chance_needs_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    fit(make_settings())
    assert not caplog.records


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@pytest.mark.parametrize("score", [0.0, 0.4, 1.0])
def test_one_distinct_score_gets_the_share_of_positives(calibration: str, score: float) -> None:
    labels = np.tile([0, 0, 0, 1], 20)
    calibrator = fit_calibrator(make_held_out(np.full(80, score), labels), calibration)
    assert calibrator.predict_proba(np.array([[score]]))[0, 1] == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize(
    ("model_settings", "rows", "message"),
    [
        (
            make_settings(),
            40,
            r"calibration: sigmoid: too few rows with an out-of-bag score \(found 40, \d+ of the rarer class; "
            r"expected 50 or more, 5 of each class\)\. Add rows, or set random_forest_pipeline\.calibration=none\.",
        ),
        (make_settings(forest={"bootstrap": False}), 40, r"sigmoid: too few rows with an out-of-fold score \(found 40"),
        (make_settings("isotonic"), 999, r"expected 1,000 or more.*set random_forest_pipeline\.calibration=sigmoid"),
        (make_settings("none", forest={"bootstrap": False}), 8, r"refit=false"),
    ],
    ids=["sigmoid", "out of fold", "isotonic", "threshold"],
)
def test_too_few_rows_are_named_with_the_next_step(
    model_settings: RandomForestSettings, rows: int, message: str
) -> None:
    with pytest.raises(TableUnfit, match=message):
        fit(model_settings, rows)


def test_a_rare_class_is_counted_on_its_own() -> None:
    labels = np.zeros(200, dtype=int)
    labels[:4] = 1
    with pytest.raises(TableUnfit, match=r"found \d+, [0-4] of the rarer class"):
        FOREST.fit(make_settings(), COLUMNS, ROWS[:200], labels, 1)


def test_ten_rows_are_enough_without_calibration() -> None:
    model = FOREST.fit(make_settings("none"), COLUMNS, ROWS[:10], np.tile([0, 1], 5), 1)
    assert model.predict_proba(ROWS).shape == (len(ROWS), 2)


KINDS: list[tuple[ModelKind, ModelSettings]] = [
    (FOREST, make_settings()),
    (FOREST, make_settings(forest={"bootstrap": False})),
    (gradient_boosting.run.KIND, GradientBoostingSettings(gradient_boosting=Boosting(max_iter=20))),
    (logistic_regression.run.KIND, LogisticRegressionSettings()),
]


def measure_difference(model: Pipeline, folder: Path, rows: pd.DataFrame) -> float:
    graph = folder / "model.onnx"
    graph.write_bytes(to_graph(model, COLUMNS.names, COLUMNS.text).SerializeToString())
    return compute_largest_difference(model, graph, rows, COLUMNS.names, COLUMNS.text)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@pytest.mark.parametrize(("kind", "model_settings"), KINDS, ids=["forest", "no bootstrap", "boosting", "logistic"])
def test_the_graph_and_the_kept_pipeline_have_the_calibrated_probability(
    kind: ModelKind, model_settings: ModelSettings, calibration: str, tmp_path: Path
) -> None:
    model = kind.fit(model_settings.model_copy(update={"calibration": calibration}), COLUMNS, ROWS, LABELS, 42)
    later = LATER[COLUMNS.names]
    for rows in (ROWS, later, later.assign(amount=1e12, purpose="unknown", age=-5.0)):
        assert measure_difference(model, tmp_path, rows) < 5e-6
    skops.io.dump(model, tmp_path / "model.skops")
    loaded = skops.io.load(tmp_path / "model.skops", trusted=TRUSTED_TYPES)
    np.testing.assert_array_equal(loaded.predict_proba(later), model.predict_proba(later))
    assert compute_importances(model).sum() == pytest.approx(1.0)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@pytest.mark.parametrize("method", ["decision_function", "predict_proba"])
@pytest.mark.parametrize("case", ["falling", "one score", "two scores", "close scores", "zero and one"])
def test_any_map_can_be_exported(
    fitted: dict[str, Fitted], calibration: str, method: str, case: str, tmp_path: Path
) -> None:
    """Also of a classifier that skl2onnx converts; its decision function is any number."""
    labels = np.tile([0, 0, 1, 0, 1], 240)
    scores = {
        "falling": np.where(labels == 1, 0.2, 0.7),
        "one score": np.full(1200, 0.3),
        "two scores": np.where(labels == 1, 0.7, 0.2),
        "close scores": 0.3 + 1e-9 * np.arange(1200) + np.where(labels == 1, 0.01, 0),
        "zero and one": np.where(np.arange(1200) % 7 == 0, 1 - labels, labels).astype(float),
    }[case]
    encoder, classifier = fitted["none"].pipeline.named_steps.values()
    if method == "decision_function":
        classifier = GradientBoostingClassifier(n_estimators=5).fit(encoder.transform(ROWS), LABELS)
    calibrated = to_calibrated(classifier, fit_calibrator(make_held_out(scores, labels), calibration))
    model = Pipeline([(ENCODE, encoder), (CLASSIFIER, calibrated)])
    assert measure_difference(model, tmp_path, ROWS) < 1e-5


@pytest.mark.parametrize("calibration", ["none", *CALIBRATIONS])
def test_a_refitted_model_knows_all_rows_and_its_threshold_is_of_rows_that_its_trees_have_not_seen(
    calibration: str,
) -> None:
    model_settings = make_settings(calibration, threshold="f1")
    split = (TABLE[:1100], TABLE[1100:])
    trained, alone = (
        train_model(FOREST, chosen, TABLE, split, COLUMNS, 42, Costs())
        for chosen in (model_settings, model_settings.model_copy(update={"refit": False}))
    )
    expected = {"rows_train": 1100, "rows_validation": 500, "rows_model": 1600}
    assert trained.rows == expected | ({"rows_calibration": 1600} if calibration != "none" else {})
    assert alone.rows["rows_model"] == 1100
    assert trained.metrics == alone.metrics, "the validation metrics are of the model without the validation rows"
    whole = fit(model_settings)
    np.testing.assert_array_equal(
        trained.fitted.pipeline.predict_proba(ROWS), whole.pipeline.predict_proba(ROWS), "fitted on the whole table"
    )
    assert whole.held_out is not None
    held_out_threshold = choose_threshold(
        "f1", whole.held_out.labels, whole.probability, Costs(), whole.held_out.weights
    )
    assert trained.threshold == held_out_threshold
    validation = alone.fitted.pipeline.predict_proba(TABLE[1100:][COLUMNS.names])[:, 1]
    assert alone.threshold == choose_threshold("f1", LABELS[1100:], validation, Costs())


def test_a_numeric_threshold_stays_as_it_is() -> None:
    split = (TABLE[:1100], TABLE[1100:])
    trained = train_model(FOREST, make_settings(threshold=0.4), TABLE, split, COLUMNS, 42, Costs())
    assert trained.threshold == 0.4

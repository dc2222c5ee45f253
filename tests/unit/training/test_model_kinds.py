"""Gradient boosting and logistic regression: monotonic columns, precision of their graphs, and importances."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline

import gradient_boosting.run
import logistic_regression.run
import random_forest.run
from stepkit.settings.model import (
    Boosting,
    Features,
    Forest,
    GradientBoostingSettings,
    Logistic,
    LogisticRegressionSettings,
    ModelSettings,
    RandomForestSettings,
)
from stepkit.table.columns import Column, Columns
from training.baselines import fit_baselines
from training.calibration import FOLDS, compute_out_of_fold_scores, use_one_core
from training.export import compute_largest_difference
from training.kind import ModelKind
from training.onnx_graph import PROBABILITIES, to_graph
from training.pipeline import ENCODE, compute_importances, list_directions
from training.served_model import open_session, to_inputs

BOOSTING, FOREST, LOGISTIC = gradient_boosting.run.KIND, random_forest.run.KIND, logistic_regression.run.KIND

COLUMNS = Columns(
    source_target="default",
    target="default",
    columns={
        "purpose": Column(type="text", role="categorical"),
        "delay": Column(monotonic="increasing"),
        "region": Column(role="categorical"),
        "year": Column(type="float"),
        "limit": Column(type="float", monotonic="decreasing"),
    },
)
DIRECTIONS = {"delay": 1, "limit": -1}


def make_rows(count: int = 1100) -> tuple[pd.DataFrame, np.ndarray]:
    """Return rows whose labels go up and down with the delay and the limit, against the monotonic keys."""
    rng = np.random.default_rng(5)
    rows = pd.DataFrame(
        {
            "purpose": rng.choice(["car", "house", ""], count),
            "delay": rng.integers(-2, 9, count).astype(float),
            "region": rng.choice([1.0, 2.0, 3.0, np.nan], count),
            "year": 2005 + rng.normal(size=count),
            "limit": rng.lognormal(11, 1, count),
        }
    )
    rows.loc[::17, ["delay", "limit"]] = np.nan
    score = 0.4 * rows["delay"] + 1.5 * np.sin(2 * rows["delay"]) + np.cos(rows["limit"] / 20_000) - rows["limit"] / 9e4
    return rows, (score.fillna(0) + rng.normal(size=count) > 0.5).astype(int).to_numpy()


ROWS, LABELS = make_rows()
SMALL = Boosting(max_iter=30, max_leaf_nodes=8, min_samples_leaf=5)


def fit(kind: ModelKind, settings: ModelSettings, columns: Columns = COLUMNS) -> Pipeline:
    return kind.fit(settings, columns, ROWS[columns.names], LABELS, 42)


def make_boosting(**settings: Any) -> GradientBoostingSettings:
    return GradientBoostingSettings(gradient_boosting=SMALL, **settings)


def make_forest(monotonic: bool = True, **settings: Any) -> RandomForestSettings:
    forest = Forest(n_estimators=25, max_depth=6, n_jobs=1, class_weight="balanced", monotonic=monotonic)
    return RandomForestSettings(random_forest=forest, **settings)


def compute_curves(model: Pipeline, column: str, values: np.ndarray) -> np.ndarray:
    """Return the graph's (60, v) probabilities of 60 rows, each with v values of a column."""
    base = ROWS.iloc[:60]
    rows = base.loc[base.index.repeat(len(values))].assign(**{column: np.tile(values, len(base))})
    session = open_session(to_graph(model, COLUMNS.names, COLUMNS.text).SerializeToString())
    probabilities = session.run([PROBABILITIES], to_inputs(rows, COLUMNS.names, COLUMNS.text))[0]
    curves: np.ndarray = probabilities[:, 1].reshape(len(base), len(values))
    return curves


def count_wrong_steps(model: Pipeline) -> int:
    """Return how often a higher value changes a probability against the direction of its column, through ONNX."""
    rng = np.random.default_rng(1)
    grids = {
        "delay": np.r_[-1e9, np.arange(-3, 10), rng.uniform(-3, 10, 200), 1e9],
        "limit": np.r_[-1e9, 0, ROWS["limit"].dropna().sample(200, random_state=1), rng.uniform(0, 1e6, 100), 1e12],
    }
    steps = [DIRECTIONS[name] * np.diff(compute_curves(model, name, np.sort(grid))) for name, grid in grids.items()]
    assert all((step > 0).any() for step in steps), "the column has no effect"
    return sum(int((step < 0).sum()) for step in steps)


@pytest.mark.parametrize("calibration", ["none", "sigmoid", "isotonic"])
@pytest.mark.parametrize("kind", ["boosting", "forest"])
def test_no_increase_of_an_increasing_column_lowers_the_score_through_onnx(kind: str, calibration: str) -> None:
    if kind == "boosting":
        model = fit(BOOSTING, make_boosting(calibration=calibration))
    else:
        model = fit(FOREST, make_forest(calibration=calibration))
    assert count_wrong_steps(model) == 0


@pytest.mark.parametrize("calibration", ["none", "sigmoid"])
def test_without_directions_the_score_falls_somewhere(calibration: str) -> None:
    """The labels of these rows contradict the directions, so the test above can fail."""
    free = {name: column.model_copy(update={"monotonic": None}) for name, column in COLUMNS.columns.items()}
    columns = COLUMNS.model_copy(update={"columns": free})
    assert count_wrong_steps(fit(BOOSTING, make_boosting(calibration=calibration), columns)) > 100
    assert count_wrong_steps(fit(FOREST, make_forest(monotonic=False, calibration=calibration))) > 100


def test_the_forest_obeys_directions_only_if_its_settings_say_so() -> None:
    default, plain = (
        fit(FOREST, make_forest(monotonic=False), columns)
        for columns in (
            COLUMNS,
            COLUMNS.model_copy(
                update={"columns": {**COLUMNS.columns, "delay": Column(), "limit": Column(type="float")}}
            ),
        )
    )
    np.testing.assert_array_equal(default.predict_proba(ROWS), plain.predict_proba(ROWS))


def test_each_encoded_feature_has_the_direction_of_its_column() -> None:
    model = fit(BOOSTING, make_boosting(calibration="none"))
    names = model.named_steps[ENCODE].get_feature_names_out()
    directions = list_directions(model.named_steps[ENCODE], COLUMNS)
    assert directions is not None
    found = {name.partition("__")[2]: value for name, value in zip(names, directions, strict=True) if value}
    assert found == DIRECTIONS
    assert len(directions) == 3 + 3 + 3, "three numbers, three codes, three texts"


def test_a_model_without_a_column_that_has_a_direction_has_none() -> None:
    settings = make_boosting(calibration="none", features=Features(numeric=["year"]))
    assert list_directions(fit(BOOSTING, settings).named_steps[ENCODE], COLUMNS) is None


def test_the_baseline_is_the_model_of_the_step() -> None:
    baseline = fit_baselines(Features(), COLUMNS, ROWS, LABELS).logistic_regression
    model = fit(LOGISTIC, LogisticRegressionSettings(calibration="none"))
    scores = baseline.compute_scores(ROWS, COLUMNS)
    assert np.abs(scores - model.decision_function(ROWS)).max() < 0.01


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5, 1.0])
def test_a_lasso_penalty_sets_coefficients_to_zero(l1_ratio: float) -> None:
    settings = LogisticRegressionSettings(logistic_regression=Logistic(C=0.02, l1_ratio=l1_ratio), calibration="none")
    zeros = (compute_importances(fit(LOGISTIC, settings)) == 0).sum()
    assert (zeros > 0) == (l1_ratio > 0)


def measure_difference(model: Pipeline, rows: pd.DataFrame, folder: Path, columns: Columns = COLUMNS) -> float:
    graph = folder / "model.onnx"
    graph.write_bytes(to_graph(model, columns.names, columns.text).SerializeToString())
    return compute_largest_difference(model, graph, rows, columns.names, columns.text)


@pytest.mark.parametrize("kind", ["boosting", "logistic"])
def test_large_numbers_with_small_differences_keep_the_graph_equal(kind: str, tmp_path: Path) -> None:
    """Float32 numbers near 2005 differ by 1e-4, and near 20 million by 2."""
    rng = np.random.default_rng(3)
    columns = Columns(source_target="y", target="y", columns={"year": Column(type="float"), "amount": Column()})
    rows = pd.DataFrame({"year": 2005 + rng.normal(size=400) * 0.01, "amount": 20_000_000.0 + np.arange(400)})
    labels = ((rows["year"] > 2005) ^ (rows["amount"] % 2 == 1)).to_numpy(dtype=int)
    if kind == "boosting":
        settings: ModelSettings = GradientBoostingSettings(
            gradient_boosting=Boosting(max_leaf_nodes=None, min_samples_leaf=1), calibration="none"
        )
        model = BOOSTING.fit(settings, columns, rows, labels, 1)
    else:
        model = LOGISTIC.fit(LogisticRegressionSettings(calibration="none"), columns, rows, labels, 1)
    assert measure_difference(model, rows, tmp_path, columns) < 1e-6


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(BOOSTING, make_boosting()), (LOGISTIC, LogisticRegressionSettings())],
    ids=["boosting", "logistic"],
)
def test_the_calibrated_graph_predicts_as_scikit_learn(
    kind: ModelKind, settings: ModelSettings, tmp_path: Path
) -> None:
    assert measure_difference(fit(kind, settings), ROWS, tmp_path) < 1e-6


@pytest.mark.parametrize(
    ("kind", "settings"), [(BOOSTING, make_boosting()), (LOGISTIC, LogisticRegressionSettings())], ids=["gb", "lr"]
)
def test_the_same_seed_gives_the_same_model(kind: ModelKind, settings: ModelSettings) -> None:
    first, second = (fit(kind, settings).predict_proba(ROWS) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_out_of_fold_scores_are_those_of_scikit_learn() -> None:
    encoded = ROWS[["year"]].to_numpy()
    boosting = BOOSTING.build_classifier(make_boosting(), 42, None)
    scores = compute_out_of_fold_scores(boosting, encoded, LABELS, "decision_function", 7)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=7)
    with use_one_core():
        expected = cross_val_predict(boosting, encoded, LABELS, cv=folds, method="decision_function")
    np.testing.assert_array_equal(scores, expected)


@pytest.mark.parametrize("kind", ["boosting", "logistic"])
def test_the_column_that_decides_is_the_most_important(kind: str) -> None:
    labels = (ROWS["year"] > 2005).to_numpy(dtype=int)
    if kind == "boosting":
        model = BOOSTING.fit(make_boosting(calibration="none"), COLUMNS, ROWS, labels, 1)
    else:
        model = LOGISTIC.fit(LogisticRegressionSettings(calibration="none"), COLUMNS, ROWS, labels, 1)
    assert compute_importances(model).index[0] == "year"


def test_boosting_without_a_split_has_no_importances() -> None:
    settings = GradientBoostingSettings(gradient_boosting=Boosting(min_samples_leaf=600), calibration="none")
    assert (compute_importances(fit(BOOSTING, settings)) == 0).all()

"""stepkit.settings.model: the settings of each kind of model are checked before a pipeline starts."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from stepkit.paths import ROOT
from stepkit.settings.model import (
    Boosting,
    Forest,
    GradientBoostingSettings,
    Logistic,
    LogisticRegressionSettings,
    ModelSettings,
    RandomForestSettings,
)


def test_the_bundled_settings_are_valid_and_those_of_the_older_system() -> None:
    settings = RandomForestSettings(**yaml.safe_load((ROOT / "random_forest" / "rf_config.yaml").read_text()))
    forest = settings.random_forest
    assert (forest.n_estimators, forest.max_depth, forest.class_weight) == (100, 13, "balanced")
    assert settings.threshold == "f1"


def test_every_forest_setting_is_an_argument_of_scikit_learn_with_its_default() -> None:
    defaults = RandomForestClassifier().get_params()
    ours = Forest().model_dump()
    assert ours.pop("n_jobs") == -1, "all cores, where scikit-learn takes one"
    assert ours.pop("monotonic") is False, "a choice of the step"
    assert ours == {name: defaults[name] for name in ours}


def test_every_setting_of_the_other_kinds_is_an_argument_of_scikit_learn_with_its_default() -> None:
    boosting, defaults = Boosting().model_dump(), HistGradientBoostingClassifier().get_params()
    assert boosting == {name: defaults[name] for name in boosting}
    logistic, defaults = Logistic().model_dump(), LogisticRegression().get_params()
    assert logistic.pop("max_iter") == 1000, "scikit-learn's 100 do not suffice for many columns"
    assert logistic == {name: defaults[name] for name in logistic}


def test_the_bundled_settings_of_the_other_kinds_are_valid() -> None:
    gb = GradientBoostingSettings(**yaml.safe_load((ROOT / "gradient_boosting" / "gb_config.yaml").read_text()))
    boosting = gb.gradient_boosting
    assert (boosting.max_iter, boosting.max_leaf_nodes, boosting.learning_rate) == (150, 15, 0.06)
    lr = LogisticRegressionSettings(**yaml.safe_load((ROOT / "logistic_regression" / "lr_config.yaml").read_text()))
    shared = {"features", "calibration", "refit", "threshold", "export_artifact"}
    forest = RandomForestSettings(**yaml.safe_load((ROOT / "random_forest" / "rf_config.yaml").read_text()))
    assert gb.model_dump(include=shared) == lr.model_dump(include=shared) == forest.model_dump(include=shared)


@pytest.mark.parametrize(
    "forest", [{"min_samples_leaf": 5}, {"min_samples_leaf": 0.1}, {"max_features": None}], ids=str
)
def test_counts_and_shares_are_kept_apart(forest: dict[str, Any]) -> None:
    ((name, value),) = forest.items()
    parsed = getattr(Forest(**forest), name)
    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize("name", ["min_samples_split", "min_samples_leaf", "max_features", "max_samples"])
@pytest.mark.parametrize("value", [1.0, 0.999, 2], ids=str)
def test_scikit_learn_accepts_the_accepted_bounds(name: str, value: float) -> None:
    forest = RandomForestClassifier(
        **Forest.model_validate({name: value, "n_estimators": 1}).model_dump(exclude={"monotonic"})
    )
    forest.fit([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]], [0, 1, 1])


TWO_ROWS = [[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [3.0, 1.0]], [0, 1, 1, 0]


@pytest.mark.parametrize(
    "settings",
    [
        {"max_iter": 1},
        {"learning_rate": 5e-324},
        {"learning_rate": 1e300},
        {"max_leaf_nodes": 2},
        {"max_leaf_nodes": None},
        {"max_depth": 1},
        {"min_samples_leaf": 1},
        {"l2_regularization": 0},
        {"max_features": 1},
        {"max_features": 5e-324},
        {"max_bins": 2},
        {"max_bins": 255},
        {"interaction_cst": "pairwise"},
        {"interaction_cst": "no_interactions"},
        {"class_weight": "balanced"},
    ],
    ids=str,
)
def test_scikit_learn_accepts_the_accepted_bounds_of_boosting(settings: dict[str, Any]) -> None:
    boosting = Boosting.model_validate({"max_iter": 1, **settings})
    HistGradientBoostingClassifier(**boosting.model_dump(), early_stopping=False).fit(*TWO_ROWS)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "settings",
    [
        {"C": 1e-300},
        {"C": float("inf")},
        {"l1_ratio": 0},
        {"l1_ratio": 1},
        {"max_iter": 1},
        {"tol": 0},
        {"fit_intercept": False},
        {"class_weight": "balanced"},
    ],
    ids=str,
)
def test_scikit_learn_accepts_the_accepted_bounds_of_logistic_regression(settings: dict[str, Any]) -> None:
    logistic = Logistic.model_validate(settings)
    LogisticRegression(**logistic.model_dump(), solver="saga").fit(*TWO_ROWS)


@pytest.mark.parametrize(
    ("kind", "settings", "key"),
    [
        *(
            (GradientBoostingSettings, {"gradient_boosting": wrong}, f"gradient_boosting.{next(iter(wrong))}")
            for wrong in (
                {"max_iter": 0},
                {"learning_rate": 0},
                {"learning_rate": float("inf")},
                {"max_leaf_nodes": 1},
                {"max_depth": 0},
                {"min_samples_leaf": 0},
                {"l2_regularization": -1},
                {"max_features": 1.1},
                {"max_features": 0},
                {"max_bins": 256},
                {"interaction_cst": "all"},
                {"class_weight": "balanced_subsample"},
                {"early_stopping": True},
            )
        ),
        *(
            (LogisticRegressionSettings, {"logistic_regression": wrong}, f"logistic_regression.{next(iter(wrong))}")
            for wrong in ({"C": 0}, {"l1_ratio": 1.1}, {"l1_ratio": -0.1}, {"max_iter": 0}, {"tol": -1}, {"penalty": 1})
        ),
        (GradientBoostingSettings, {"random_forest": {}}, "random_forest"),
    ],
    ids=str,
)
def test_a_wrong_setting_of_another_kind_is_refused_under_its_key(
    kind: type[ModelSettings], settings: dict[str, Any], key: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        kind(**settings)
    places = {".".join(str(part) for part in problem["loc"]) for problem in caught.value.errors()}
    assert any(place.startswith(key) for place in places), places


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"random_forest": {"n_trees": 5}}, "random_forest.n_trees"),
        ({"random_forest": {"n_estimators": 0}}, "random_forest.n_estimators"),
        ({"random_forest": {"n_estimators": "many"}}, "random_forest.n_estimators"),
        ({"random_forest": {"max_depth": -1}}, "random_forest.max_depth"),
        ({"random_forest": {"criterion": "best"}}, "random_forest.criterion"),
        ({"random_forest": {"class_weight": "heavy"}}, "random_forest.class_weight"),
        ({"features": {"impute_numeric": "guess"}}, "features.impute_numeric"),
        ({"features": {"numeric": "some"}}, "features.numeric"),
        ({"threshold": 1.0}, "threshold"),
        ({"threshold": 0}, "threshold"),
        ({"export_artifact": "a/b"}, "export_artifact"),
        ({"forest": {}}, "forest"),
    ],
)
def test_a_wrong_setting_is_refused_under_its_key(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RandomForestSettings(**settings)
    places = {".".join(str(part) for part in problem["loc"]) for problem in caught.value.errors()}
    assert any(place.startswith(key) for place in places), places


@pytest.mark.parametrize(
    ("settings", "is_warned"),
    [
        ({"threshold": 0.5, "calibration": "sigmoid"}, True),
        ({"threshold": 0.5, "calibration": "isotonic"}, True),
        ({"threshold": 0.5, "calibration": "none"}, False),
        ({"threshold": "f1", "calibration": "sigmoid"}, False),
        ({"calibration": "sigmoid"}, False),
    ],
    ids=str,
)
def test_a_fixed_threshold_for_a_calibrated_probability_has_a_warning(
    settings: dict[str, Any], is_warned: bool
) -> None:
    warning = ModelSettings.model_validate(settings).explain_fixed_threshold()
    assert warning.startswith("threshold: 0.5 is compared with the calibrated probability") == is_warned
    assert bool(warning) == is_warned

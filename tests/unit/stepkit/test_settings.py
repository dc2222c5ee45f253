"""stepkit.settings.model: the forest's settings are checked before a pipeline starts."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from sklearn.ensemble import RandomForestClassifier

from stepkit.paths import ROOT
from stepkit.settings.model import Forest, RandomForestSettings


def test_the_bundled_settings_are_valid_and_those_of_the_older_system() -> None:
    settings = RandomForestSettings(**yaml.safe_load((ROOT / "random_forest" / "rf_config.yaml").read_text()))
    forest = settings.random_forest
    assert (forest.n_estimators, forest.max_depth, forest.class_weight) == (100, 13, "balanced")
    assert settings.threshold == "f1"


def test_every_forest_setting_is_an_argument_of_scikit_learn_with_its_default() -> None:
    defaults = RandomForestClassifier().get_params()
    ours = Forest().model_dump()
    assert ours.pop("n_jobs") == -1, "all cores, where scikit-learn takes one"
    assert ours == {name: defaults[name] for name in ours}


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
    forest = RandomForestClassifier(**Forest.model_validate({name: value, "n_estimators": 1}).model_dump())
    forest.fit([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]], [0, 1, 1])


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

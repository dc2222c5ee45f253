"""The settings of a model, as they stand in random_forest/rf_config.yaml; checked before anything runs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from stepkit.columns import Strict

Fraction = float


class Forest(Strict):
    """Arguments of sklearn.ensemble.RandomForestClassifier, with its defaults."""

    n_estimators: PositiveInt = 100
    criterion: Literal["gini", "entropy", "log_loss"] = "gini"
    max_depth: PositiveInt | None = None
    min_samples_split: PositiveInt | PositiveFloat = 2
    min_samples_leaf: PositiveInt | PositiveFloat = 1
    min_weight_fraction_leaf: float = Field(0.0, ge=0.0, le=0.5)
    max_features: Literal["sqrt", "log2"] | PositiveInt | PositiveFloat | None = "sqrt"
    max_leaf_nodes: PositiveInt | None = None
    min_impurity_decrease: float = Field(0.0, ge=0.0)
    bootstrap: bool = True
    class_weight: Literal["balanced", "balanced_subsample"] | None = None
    ccp_alpha: float = Field(0.0, ge=0.0)
    max_samples: PositiveInt | PositiveFloat | None = None
    n_jobs: int = -1


class Features(Strict):
    """Which columns the model takes and how their gaps are filled; "all" means all of that role."""

    numeric: Literal["all"] | list[str] = "all"
    categorical: Literal["all"] | list[str] = "all"
    impute_numeric: Literal["median", "mean", "most_frequent"] = "median"
    impute_categorical: Literal["most_frequent"] = "most_frequent"


class ModelSettings(Strict):
    """Forest, features, the probability from which a row is of class 1, and the logged model's name."""

    random_forest: Forest = Forest()
    features: Features = Features()
    threshold: float = Field(0.5, gt=0.0, lt=1.0)
    export_artifact: str = Field("model_export", pattern=r"^[A-Za-z][\w.-]*$")

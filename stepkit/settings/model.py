"""Schemas of the settings files of the model steps, which are checked before a pipeline starts."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from stepkit.table.columns import Strict

CALIBRATION = "calibration"
"""Tag of the model step's run and of the version: sigmoid, isotonic or none."""

Share = Annotated[float, Field(gt=0.0, le=1.0)]
LessThanAll = Annotated[float, Field(gt=0.0, lt=1.0)]
AtLeastTwo = Annotated[int, Field(ge=2)]


class Forest(Strict):
    """Arguments of sklearn.ensemble.RandomForestClassifier with the defaults of scikit-learn."""

    n_estimators: PositiveInt = 100
    criterion: Literal["gini", "entropy", "log_loss"] = "gini"
    max_depth: PositiveInt | None = None
    min_samples_split: AtLeastTwo | Share = 2
    min_samples_leaf: PositiveInt | LessThanAll = 1
    min_weight_fraction_leaf: float = Field(0.0, ge=0.0, le=0.5)
    max_features: Literal["sqrt", "log2"] | PositiveInt | Share | None = "sqrt"
    max_leaf_nodes: AtLeastTwo | None = None
    min_impurity_decrease: float = Field(0.0, ge=0.0)
    bootstrap: bool = True
    class_weight: Literal["balanced", "balanced_subsample"] | None = None
    ccp_alpha: float = Field(0.0, ge=0.0)
    max_samples: PositiveInt | Share | None = None
    n_jobs: int = -1

    @model_validator(mode="after")
    def _verify_forest(self) -> Self:
        if self.max_samples is not None and not self.bootstrap:
            raise ValueError("max_samples requires bootstrap: true")
        if self.n_jobs == 0:
            raise ValueError("n_jobs must be a number of cores, or -1 for all (found 0)")
        return self


class Features(Strict):
    """Input columns of the model and imputation of missing values; "all" selects all columns of a role."""

    numeric: Literal["all"] | list[str] = "all"
    categorical: Literal["all"] | list[str] = "all"
    impute_numeric: Literal["median", "mean", "most_frequent"] = "median"
    impute_categorical: Literal["most_frequent"] = "most_frequent"


class ModelSettings(Strict):
    """Settings that every kind of model has: features, calibration, threshold and name of the logged model.

    The thresholds "f1" and "cost" are chosen for the best F1 or the lowest cost: on the out-of-bag or out-of-fold
    probabilities of all rows with `refit`, else on the validation split.
    """

    features: Features = Features()
    calibration: Literal["sigmoid", "isotonic", "none"] = "sigmoid"
    refit: bool = True
    threshold: Literal["f1", "cost"] | LessThanAll = 0.5
    export_artifact: str = Field("model_export", pattern=r"^[A-Za-z][\w.-]*$")


class RandomForestSettings(ModelSettings):
    """Schema of random_forest/rf_config.yaml."""

    random_forest: Forest = Forest()

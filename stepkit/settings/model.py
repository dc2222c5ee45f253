"""Schemas of the settings files of the model steps, which are checked before a pipeline starts."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from stepkit.table.columns import Strict

CALIBRATION = "calibration"
"""Tag of the model step's run and of the version: sigmoid, isotonic or none."""
CALIBRATED = ("sigmoid", "isotonic")
"""Values of the tag for a model whose score is a probability."""
NOT_CALIBRATED = "none"

Share = Annotated[float, Field(gt=0.0, le=1.0)]
LessThanAll = Annotated[float, Field(gt=0.0, lt=1.0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
AtLeastTwo = Annotated[int, Field(ge=2)]


class Forest(Strict):
    """Arguments of sklearn.ensemble.RandomForestClassifier with the defaults of scikit-learn.

    `monotonic` applies the monotonic columns of data/*.yaml as `monotonic_cst`.
    """

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
    monotonic: bool = False

    @model_validator(mode="after")
    def _verify_forest(self) -> Self:
        if self.max_samples is not None and not self.bootstrap:
            raise ValueError("max_samples requires bootstrap: true")
        if self.n_jobs == 0:
            raise ValueError("n_jobs must be a number of cores, or -1 for all (found 0)")
        return self


class Boosting(Strict):
    """Arguments of sklearn.ensemble.HistGradientBoostingClassifier with the defaults of scikit-learn."""

    max_iter: PositiveInt = 100
    learning_rate: Finite = Field(0.1, gt=0.0)
    max_leaf_nodes: AtLeastTwo | None = 31
    max_depth: PositiveInt | None = None
    min_samples_leaf: PositiveInt = 20
    l2_regularization: Finite = Field(0.0, ge=0.0)
    max_features: Share = 1.0
    max_bins: int = Field(255, ge=2, le=255)
    interaction_cst: Literal["pairwise", "no_interactions"] | None = None
    class_weight: Literal["balanced"] | None = None


class Logistic(Strict):
    """Arguments of sklearn.linear_model.LogisticRegression with the defaults of scikit-learn, but more iterations."""

    C: float = Field(1.0, gt=0.0)
    l1_ratio: float = Field(0.0, ge=0.0, le=1.0)
    fit_intercept: bool = True
    max_iter: PositiveInt = 1000
    tol: Finite = Field(1e-4, ge=0.0)
    class_weight: Literal["balanced"] | None = None


class Features(Strict):
    """Input columns of the model and imputation of missing values; "all" selects all columns of a role.

    `exclude_protected` leaves out the columns that data/*.yaml marks as protected.
    """

    numeric: Literal["all"] | list[str] = "all"
    categorical: Literal["all"] | list[str] = "all"
    impute_numeric: Literal["median", "mean", "most_frequent"] = "median"
    impute_categorical: Literal["most_frequent"] = "most_frequent"
    exclude_protected: bool = False


class Reasons(Strict):
    """Computation of the reasons for an answer: number of permutations (even, because half of them are reversed).

    "exact" takes all subsets of the columns, for at most 12 columns.
    """

    permutations: Annotated[int, Field(ge=2, le=1024, multiple_of=2)] | Literal["exact"] = 12


class ModelSettings(Strict):
    """Settings that every kind of model has: features, calibration, reasons, threshold and name of the logged model.

    The thresholds "f1" and "cost" are chosen for the best F1 or the lowest cost: on the out-of-bag or out-of-fold
    probabilities of all rows with `refit`, else on the validation split.
    """

    features: Features = Features()
    reasons: Reasons = Reasons()
    calibration: Literal["sigmoid", "isotonic", "none"] = "sigmoid"
    refit: bool = True
    threshold: Literal["f1", "cost"] | LessThanAll = 0.5
    export_artifact: str = Field("model_export", pattern=r"^[A-Za-z][\w.-]*$")

    def explain_fixed_threshold(self) -> str:
        """Return a warning if the settings fix a threshold for a calibrated probability, else ""."""
        is_fixed = "threshold" in self.model_fields_set and not isinstance(self.threshold, str)
        if not is_fixed or self.calibration not in CALIBRATED:
            return ""
        return (
            f"threshold: {self.threshold:g} is compared with the calibrated probability (calibration: "
            f"{self.calibration}), whose scale is not that of an uncalibrated model. Check the number, or set "
            "threshold: f1 or threshold: cost."
        )


class RandomForestSettings(ModelSettings):
    """Schema of random_forest/rf_config.yaml."""

    random_forest: Forest = Forest()


class GradientBoostingSettings(ModelSettings):
    """Schema of gradient_boosting/gb_config.yaml."""

    gradient_boosting: Boosting = Boosting()


class LogisticRegressionSettings(ModelSettings):
    """Schema of logistic_regression/lr_config.yaml."""

    logistic_regression: Logistic = Logistic()

"""Scikit-learn pipeline of every kind of model: imputation and encoding by column role, then the classifier."""

from __future__ import annotations

from typing import Any

import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder

from stepkit.errors import BadParameter
from stepkit.settings.model import Features
from stepkit.table.columns import Columns

CLASSIFIER = "classifier"
ENCODE = "encode"
CODES = "codes"


def select_features(features: Features, columns: Columns) -> list[str]:
    """Return the model's input columns, in the data set's order.

    Raises:
        BadParameter: no column is selected, or the data set has no column of that name and role.
    """
    selected: list[str] = []
    for role, candidates in (("numeric", columns.numeric), ("categorical", columns.categorical)):
        names = getattr(features, role)
        if unknown := [name for name in names if name not in candidates and names != "all"]:
            raise BadParameter(
                f"features.{role}: the data set has no {role} column {', '.join(unknown)}. "
                f"Its {role} columns: {', '.join(candidates) or 'none'}."
            )
        selected += candidates if names == "all" else names
    if not selected:
        raise BadParameter(
            "features: no column selected. Set features.numeric or features.categorical to names or 'all'."
        )
    return [name for name in columns.names if name in selected]


def build_pipeline(features: Features, columns: Columns, classifier: Any) -> Pipeline:
    """Return the unfitted pipeline: raw columns -> imputed and one-hot encoded -> `classifier`."""
    names = select_features(features, columns)
    text = [name for name in names if name in columns.text]
    codes = [name for name in names if name in columns.categorical and name not in text]
    numeric = [name for name in names if name in columns.numeric]
    fill = SimpleImputer(strategy=features.impute_numeric, keep_empty_features=True)
    fill_codes = SimpleImputer(strategy=features.impute_categorical, keep_empty_features=True)
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)  # ColumnTransformer fits a copy for each use
    encode = ColumnTransformer(
        [("numeric", fill, numeric), (CODES, make_pipeline(fill_codes, one_hot), codes), ("text", one_hot, text)]
    )
    return Pipeline([(ENCODE, encode), (CLASSIFIER, classifier)])


def compute_importances(model: Pipeline) -> pd.Series:
    """Return the impurity-based importance of each encoded feature, largest first; the sum is 1."""
    # Encoded names are unique only with scikit-learn's prefix (codes__SEX_1.0), which is removed here.
    names = [name.partition("__")[2] for name in model.named_steps[ENCODE].get_feature_names_out()]
    return pd.Series(model.named_steps[CLASSIFIER].feature_importances_, index=names).sort_values(ascending=False)

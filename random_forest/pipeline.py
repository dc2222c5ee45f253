"""The scikit-learn pipeline: imputation and encoding by column role, then the forest."""

from __future__ import annotations

from typing import Literal

import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder

from stepkit.errors import BadParameter
from stepkit.settings.model import Features, ModelSettings
from stepkit.table.columns import Columns

FOREST = "forest"
ENCODE = "encode"
CODES = "codes"


def chosen(wanted: Literal["all"] | list[str], of_role: list[str], role: str) -> list[str]:
    """Return the columns of a role that the model takes.

    Raises:
        BadParameter: a wanted column is not one of the data set's columns of that role.
    """
    if wanted == "all":
        return of_role
    unknown = [name for name in wanted if name not in of_role]
    if unknown:
        raise BadParameter(
            f"features.{role} names {', '.join(unknown)}, which the data set does not describe as {role}. "
            f"Its {role} columns: {', '.join(of_role) or 'none'}."
        )
    return list(wanted)


def features_of(features: Features, columns: Columns) -> list[str]:
    """Return the model's input columns, in the data set's order."""
    numeric = chosen(features.numeric, columns.numeric, "numeric")
    categorical = chosen(features.categorical, columns.categorical, "categorical")
    taken = {*numeric, *categorical}
    if not taken:
        raise BadParameter("features leaves the model no column at all; name some, or write 'all'.")
    return [name for name in columns.names if name in taken]


def build(settings: ModelSettings, columns: Columns, random_seed: int) -> Pipeline:
    """Return the unfitted pipeline: raw columns -> imputed and one-hot encoded -> random forest."""
    features = features_of(settings.features, columns)
    text = [name for name in features if name in columns.text]
    codes = [name for name in features if name in columns.categorical and name not in text]
    numeric = [name for name in features if name in columns.numeric]
    fill = SimpleImputer(strategy=settings.features.impute_categorical, keep_empty_features=True)
    encode = ColumnTransformer(
        [
            ("numeric", SimpleImputer(strategy=settings.features.impute_numeric, keep_empty_features=True), numeric),
            (CODES, make_pipeline(fill, OneHotEncoder(handle_unknown="ignore", sparse_output=False)), codes),
            ("text", OneHotEncoder(handle_unknown="ignore", sparse_output=False), text),
        ],
    )
    forest = RandomForestClassifier(random_state=random_seed, **settings.random_forest.model_dump())
    return Pipeline([(ENCODE, encode), (FOREST, forest)])


def importances(model: Pipeline) -> pd.Series:
    """Impurity-based importance per encoded feature (sums to 1), largest first."""
    # with scikit-learn's prefix (codes__SEX_1.0) the names are unique: a column may be called like a code of another
    names = [name.partition("__")[2] for name in model.named_steps[ENCODE].get_feature_names_out()]
    return pd.Series(model.named_steps[FOREST].feature_importances_, index=names).sort_values(ascending=False)

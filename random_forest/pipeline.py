"""The scikit-learn pipeline: imputation and encoding by column role, then the forest."""

from __future__ import annotations

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


def select_features(features: Features, columns: Columns) -> list[str]:
    """Return the model's input columns, in the data set's order.

    Raises:
        BadParameter: none, or a wanted column is not one of the data set's columns of that role.
    """
    taken: list[str] = []
    for role, of_role in (("numeric", columns.numeric), ("categorical", columns.categorical)):
        wanted = getattr(features, role)
        if unknown := [name for name in wanted if name not in of_role and wanted != "all"]:
            raise BadParameter(
                f"features.{role} names {', '.join(unknown)}, which the data set does not describe as {role}. "
                f"Its {role} columns: {', '.join(of_role) or 'none'}."
            )
        taken += of_role if wanted == "all" else wanted
    if not taken:
        raise BadParameter("features leaves the model no column at all; name some, or write 'all'.")
    return [name for name in columns.names if name in taken]


def build_pipeline(settings: ModelSettings, columns: Columns, random_seed: int) -> Pipeline:
    """Return the unfitted pipeline: raw columns -> imputed and one-hot encoded -> random forest."""
    features = select_features(settings.features, columns)
    text = [name for name in features if name in columns.text]
    codes = [name for name in features if name in columns.categorical and name not in text]
    numeric = [name for name in features if name in columns.numeric]
    fill = SimpleImputer(strategy=settings.features.impute_numeric, keep_empty_features=True)
    fill_codes = SimpleImputer(strategy=settings.features.impute_categorical, keep_empty_features=True)
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)  # each use is fitted as a copy
    encode = ColumnTransformer(
        [("numeric", fill, numeric), (CODES, make_pipeline(fill_codes, one_hot), codes), ("text", one_hot, text)]
    )
    forest = RandomForestClassifier(random_state=random_seed, **settings.random_forest.model_dump())
    return Pipeline([(ENCODE, encode), (FOREST, forest)])


def compute_importances(model: Pipeline) -> pd.Series:
    """Impurity-based importance per encoded feature (sums to 1), largest first."""
    # with scikit-learn's prefix (codes__SEX_1.0) the names are unique: a column may be called like a code of another
    names = [name.partition("__")[2] for name in model.named_steps[ENCODE].get_feature_names_out()]
    return pd.Series(model.named_steps[FOREST].feature_importances_, index=names).sort_values(ascending=False)

"""Baselines: what a model step publishes scores new rows like scikit-learn, and the gate compares the model with it."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from stepkit.model.baselines import Baselines, CodeTerm, LogisticTerms, NumericTerm, SingleColumn
from stepkit.settings.model import Features
from stepkit.strict_json import to_json
from stepkit.table.columns import Column, Columns
from stepkit.table.tables import to_model_input
from training.baselines import fit_baselines
from training.pipeline import build_encoder

COLUMNS = Columns(
    source_target="y",
    target="y",
    columns={
        "amount": Column(type="float", max_missing=1.0),
        "empty": Column(type="float", max_missing=1.0),
        "kind": Column(role="categorical", max_missing=1.0),
        "city": Column(type="text", role="categorical", max_missing=1.0),
    },
)
ROWS = 600


def make_table(seed: int) -> pd.DataFrame:
    """Return rows with missing values in every column and labels that depend on the columns."""
    random = np.random.default_rng(seed)
    amount, kind, city = random.normal(50, 20, ROWS), random.integers(1, 4, ROWS), random.integers(0, 3, ROWS)
    odds = -1 + (amount - 50) / 30 + (kind == 2) - (city == 1)
    missing = random.random((3, ROWS)) < 0.1
    return pd.DataFrame(
        {
            "amount": np.where(missing[0], np.nan, amount),
            "empty": np.nan,
            "kind": np.where(missing[1], np.nan, kind.astype(float)),
            "city": np.where(missing[2], None, np.array(["Bonn", "Ulm", "007"])[city]),
            "y": (random.random(ROWS) < 1 / (1 + np.exp(-odds))).astype(int),
        }
    )


TRAIN, TEST = make_table(1), make_table(2)
LABELS = TRAIN["y"].to_numpy()
ALL = Features()


def fit(features: Features = ALL) -> Baselines:
    """Return the baselines of the training rows, written to JSON and read again."""
    baselines = fit_baselines(features, COLUMNS, to_model_input(TRAIN, COLUMNS), LABELS)
    return Baselines.model_validate_json(to_json(baselines.model_dump()))


@pytest.mark.parametrize(
    "features",
    [
        Features(),
        Features(impute_numeric="mean"),
        Features(categorical=[]),
        Features(numeric=[], categorical=["kind"]),
        Features(numeric=[], categorical=["city"]),
    ],
)
def test_the_published_logistic_regression_scores_like_scikit_learn(features: Features) -> None:
    encoder = build_encoder(features, COLUMNS)
    encoded = encoder.fit_transform(to_model_input(TRAIN, COLUMNS))
    numeric = len(encoder.transformers_[0][2])
    scaler = StandardScaler()
    new = encoder.transform(to_model_input(TEST, COLUMNS))
    if numeric:
        encoded[:, :numeric], new[:, :numeric] = (
            scaler.fit_transform(encoded[:, :numeric]),
            scaler.transform(new[:, :numeric]),
        )
    model = LogisticRegression(solver="newton-cholesky", max_iter=1000).fit(encoded, LABELS)
    scores = fit(features).logistic_regression.compute_scores(TEST, COLUMNS)
    np.testing.assert_allclose(scores, model.decision_function(new), atol=1e-9)


def test_log_odds_by_hand() -> None:
    terms = LogisticTerms(
        intercept=-1.0,
        numeric={"amount": NumericTerm(fill=40.0, mean=50.0, scale=10.0, coefficient=2.0)},
        codes={
            "kind": CodeTerm(fill="2", coefficients={"1": 0.5, "2": 0.25}),
            "city": CodeTerm(fill="", coefficients={"": 0.125, "007": 4.0}),
        },
    )
    rows = pd.DataFrame(
        {
            "amount": [60.0, np.nan, 50.0],
            "kind": [1.0, np.nan, 9.0],
            "city": pd.array(["007", None, "7"], dtype="string"),
        }
    )
    expected = [-1 + 2 + 0.5 + 4, -1 - 2 + 0.25 + 0.125, -1.0]
    assert terms.compute_scores(rows, COLUMNS).tolist() == expected


def test_the_best_column_is_chosen_on_the_training_rows() -> None:
    baselines = fit()
    assert baselines.single_column is not None
    assert baselines.single_column.column == "amount"
    assert baselines.single_column.auc == max(baselines.aucs.values())
    assert list(baselines.aucs) == COLUMNS.names


def test_only_features_of_the_model_are_baselines() -> None:
    baselines = fit(Features(numeric=[], categorical=["city"]))
    assert list(baselines.aucs) == ["city"]
    assert baselines.single_column is not None
    rates = TRAIN.groupby(TRAIN["city"].fillna(""))["y"].mean().to_dict()
    assert baselines.single_column.rates == pytest.approx(rates)
    assert baselines.single_column.unseen == pytest.approx(LABELS.mean())


def test_a_column_scores_rows_by_hand() -> None:
    numbers = SingleColumn(column="amount", auc=0.7, sign=-1, missing="highest")
    assert numbers.compute_scores(pd.DataFrame({"amount": [3.0, np.nan]}), COLUMNS).tolist() == [-3.0, math.inf]
    codes = SingleColumn(column="kind", auc=0.7, rates={"1": 0.2, "": 0.9}, unseen=0.3)
    assert codes.compute_scores(pd.DataFrame({"kind": [1.0, np.nan, 5.0]}), COLUMNS).tolist() == [0.2, 0.9, 0.3]


def test_a_missing_value_that_means_class_1_is_valid_json() -> None:
    table = pd.DataFrame({"amount": np.where(LABELS == 1, np.nan, 5.0), "empty": 1.0, "kind": 1.0, "city": "Ulm"})
    baselines = fit_baselines(Features(), COLUMNS, to_model_input(table, COLUMNS), LABELS)
    text = to_json(baselines.model_dump())
    assert json.loads(text)["single_column"]["missing"] == "highest"


def test_a_tiny_table_has_a_logistic_regression_and_no_single_column() -> None:
    rows = to_model_input(TRAIN.head(10), COLUMNS)
    baselines = fit_baselines(Features(), COLUMNS, rows, np.arange(10) % 2)
    assert (baselines.aucs, baselines.single_column) == ({}, None)

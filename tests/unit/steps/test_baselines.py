"""Baselines: what a model step publishes scores new rows like scikit-learn, and the gate compares the model with it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from evaluate.baselines import BaselineComparison, BaselineResult, compare_with_baselines
from evaluate.gate import check_baselines
from evaluate.verdict import Rule
from stepkit.model.baselines import Baselines, CodeTerm, LogisticTerms, NumericTerm, SingleColumn
from stepkit.model.metrics import Scored
from stepkit.model.statistics import Interval
from stepkit.settings.evaluate import Evaluation, Gate
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
            "city": pd.Series(np.array(["Bonn", "Ulm", "007"])[city], dtype=object).mask(missing[2]),
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


def make_scored(probability: np.ndarray) -> Scored:
    return Scored(TEST["y"].to_numpy(), probability, (probability > 0.5).astype(int))


def compare(probability: np.ndarray, aucs: dict[str, float] | None = None, checked: list[str] | None = None) -> Any:
    """Return the comparison of a model that predicts these scores for the test rows."""
    columns = COLUMNS.model_copy(update={"leakage_checked": checked or []})
    baselines = fit().model_copy(update={"aucs": aucs or {"amount": 0.7}})
    return compare_with_baselines(baselines, TEST, columns, make_scored(probability), 0.95)


def judge(comparison: BaselineComparison, **gate: Any) -> dict[str, Rule]:
    """Return the rules that follow from the comparison alone, by name."""
    return {rule.name: rule for rule in check_baselines(comparison, Evaluation(gate=Gate.model_validate(gate)))}


NOISE = np.random.default_rng(3).random(ROWS)
BASELINE_SCORES = fit().logistic_regression.compute_scores(TEST, COLUMNS)


def test_a_model_that_is_worse_than_a_baseline_is_rejected_with_its_name() -> None:
    rules = judge(compare(NOISE))
    assert [name for name, rule in rules.items() if not rule.passed] == [
        "not_worse_than_single_column",
        "not_worse_than_logistic_regression",
    ]
    assert "compared with the column amount alone" in rules["not_worse_than_single_column"].reason
    assert rules["not_worse_than_logistic_regression"].reason.endswith(": worse")


def test_the_logistic_regression_itself_passes_and_is_not_called_better() -> None:
    itself = (1 / (1 + np.exp(-BASELINE_SCORES))).astype(np.float32)
    comparison = compare(itself)
    rule = judge(comparison)["not_worse_than_logistic_regression"]
    assert (rule.passed, rule.reason.endswith("not shown to be better")) == (True, True)
    assert "a logistic regression" in comparison.explain_not_better(set())


def test_a_negligible_loss_does_not_count_as_worse() -> None:
    interval = Interval(-0.0012, -0.0014, -0.0009)
    result = BaselineResult("single_column", "the column a alone", Interval(0.7, 0.6, 0.8), interval)
    for high, passed in ((-0.0009, True), (-0.0011, False)):
        worse = replace(result, difference=replace(interval, high=high))
        assert judge(BaselineComparison(10, [worse]))["not_worse_than_single_column"].passed is passed


def test_a_better_model_passes_without_a_warning() -> None:
    comparison = compare(BASELINE_SCORES + 3 * TEST["y"].to_numpy())
    assert all(rule.passed for rule in judge(comparison).values())
    assert comparison.explain_not_better(set()) == ""


def test_the_summary_does_not_repeat_a_failed_rule() -> None:
    assert compare(NOISE).explain_not_better(set(judge(compare(NOISE)))) == ""


@pytest.mark.parametrize("switch", [None, False])
def test_the_rules_can_be_switched_off_but_not_the_one_about_leakage(switch: bool | None) -> None:
    assert list(judge(compare(NOISE), baselines=switch)) == ["leakage"]


def test_a_run_of_an_earlier_release_has_no_such_rules() -> None:
    comparison = compare_with_baselines(None, TEST, COLUMNS, make_scored(NOISE), 0.95)
    assert judge(comparison) == {}
    assert "earlier releases" in comparison.to_report()["baselines"]["reason_not_compared"]


def test_one_positive_test_row_is_not_enough() -> None:
    labels = (np.arange(ROWS) == 5).astype(int)
    comparison = compare_with_baselines(fit(), TEST, COLUMNS, Scored(labels, NOISE, labels), 0.95)
    rule = judge(comparison)["not_worse_than_logistic_regression"]
    assert (rule.passed, math.isnan(rule.value)) == (False, True)
    assert "fewer than 2 test rows" in rule.reason


def test_a_leaking_column_fails_until_the_description_names_it() -> None:
    leaking = {"amount": 0.7, "city": 0.991}
    rule = judge(compare(NOISE, leaking))["leakage"]
    assert (rule.passed, rule.value, rule.threshold) == (False, 0.991, 0.98)
    assert "city (0.991)" in rule.reason
    checked = judge(compare(NOISE, leaking, ["city"]))["leakage"]
    assert (checked.passed, checked.reason.endswith("leakage_checked names city")) == (True, True)


def test_the_report_holds_auc_gini_and_difference_with_intervals() -> None:
    single, logistic = compare(BASELINE_SCORES).to_report()["baselines"]["results"]
    assert single["gini"]["value"] == pytest.approx(2 * single["roc_auc"]["value"] - 1)
    assert single["gini"]["low"] == pytest.approx(2 * single["roc_auc"]["low"] - 1)
    assert logistic["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_a_forest_that_overfits_noise_is_worse_than_the_column_that_matters() -> None:
    """As on the table Default of James et al., Introduction to Statistical Learning, where balance alone is better."""
    random, rows = np.random.default_rng(0), 6000
    balance = random.normal(0, 1, rows)
    names = [f"noise{number}" for number in range(3)]
    table = pd.DataFrame({name: random.normal(0, 1, rows) for name in names}).assign(balance=balance)
    labels = (random.random(rows) < 1 / (1 + np.exp(5.5 - 2.7 * balance))).astype(int)
    columns = Columns(
        source_target="y", target="y", columns={name: Column(type="float") for name in ["balance", *names]}
    )
    train, test = table[:4000], table[4000:]
    forest = RandomForestClassifier(30, max_depth=13, random_state=1, n_jobs=1).fit(train[columns.names], labels[:4000])
    probability = forest.predict_proba(test[columns.names])[:, 1]
    baselines = fit_baselines(ALL, columns, train, labels[:4000])
    scored = Scored(labels[4000:], probability, probability > 0.5)
    comparison = compare_with_baselines(baselines, test, columns, scored, 0.95)
    failed = [rule.name for rule in check_baselines(comparison, Evaluation()) if not rule.passed]
    assert failed == ["not_worse_than_single_column", "not_worse_than_logistic_regression"]

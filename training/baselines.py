"""Baselines of a model, fitted on the same rows: the best single column and a logistic regression."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression

from stepkit.model.baselines import BASELINES, Baselines, CodeTerm, LogisticTerms, NumericTerm, SingleColumn, to_missing
from stepkit.model.single_column import MISSING_CODE, compute_column_aucs, compute_rates, rank_by_number, to_codes
from stepkit.settings.model import Features, LogisticRegressionSettings
from stepkit.step.run import StepRun
from stepkit.table.columns import Columns
from training.calibration import use_one_core
from training.logistic import build_classifier
from training.pipeline import build_encoder, select_features

WIDEST_FOR_NEWTON = 200
"""Number of encoded features up to which Newton's method is the faster solver: with 33 features, it takes a third of
the time of lbfgs; with 600 features, over ten times as long."""


def publish_baselines(run: StepRun, features: Features, rows: pd.DataFrame, labels: np.ndarray) -> None:
    """Fit both baselines on the n rows that the model was fitted on, and publish them as baselines.json."""
    run.publish_json(fit_baselines(features, run.columns, rows, labels).model_dump(), BASELINES)


def fit_baselines(features: Features, columns: Columns, rows: pd.DataFrame, labels: np.ndarray) -> Baselines:
    """Fit both baselines with the model's features.

    Args:
        features: features of the model.
        columns: columns of the data set.
        rows: n rows as the model takes them, missing texts being "".
        labels: (n,) of 0 and 1.
    """
    aucs = compute_column_aucs(rows, columns, labels, select_features(features, columns))
    best = max(aucs, key=lambda name: aucs[name], default=None)
    encoder = build_encoder(features, columns, scaled=True)
    return Baselines(
        rows=len(rows),
        aucs=aucs,
        single_column=fit_single_column(best, aucs[best], columns, rows[best], labels) if best else None,
        logistic_regression=fit_logistic_regression(encoder, columns, rows, labels),
    )


def fit_single_column(name: str, auc: float, columns: Columns, values: pd.Series, labels: np.ndarray) -> SingleColumn:
    """Return the ranking by one column: by the direction of a number, or by the share of class 1 of each code."""
    if name in columns.categorical:
        rates = compute_rates(to_codes(values, columns.columns[name]), labels)
        return SingleColumn(column=name, auc=auc, rates=rates, unseen=float(labels.mean()))
    ranking = rank_by_number(values.to_numpy(dtype=float), labels)
    return SingleColumn(column=name, auc=auc, sign=ranking.sign, missing=to_missing(ranking))


def fit_logistic_regression(
    encoder: ColumnTransformer, columns: Columns, rows: pd.DataFrame, labels: np.ndarray
) -> LogisticTerms:
    """Fit a logistic regression on imputed, scaled and one-hot encoded columns; `encoder` is unfitted.

    It is the model of the step logistic_regression with its default settings, without calibration.
    """
    encoded = encoder.fit_transform(rows)
    solver = "newton-cholesky" if encoded.shape[1] <= WIDEST_FOR_NEWTON else "lbfgs"
    with use_one_core(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a baseline that has not converged is only a weaker one
        model = build_classifier(LogisticRegressionSettings(), 0).set_params(solver=solver).fit(encoded, labels)
    return _to_terms(encoder, columns, model)


def _to_terms(encoder: ColumnTransformer, columns: Columns, model: LogisticRegression) -> LogisticTerms:
    """Return the coefficients of the encoded features by column."""
    parts = encoder.transformers_[:3]  # without the columns that are not features
    (_, numbers, numeric), (_, encode_codes, codes), (_, encode_texts, texts) = parts
    coefficients = model.coef_[0]
    fill_numeric, means, scales = (
        (numbers[0].statistics_, numbers[-1].mean_, numbers[-1].scale_) if numeric else ([], [], [])
    )
    terms = {
        name: NumericTerm(fill=fill, mean=mean, scale=scale, coefficient=coefficient)
        for name, fill, mean, scale, coefficient in zip(
            numeric, fill_numeric, means, scales, coefficients, strict=False
        )
    }
    fills = encode_codes[0].statistics_ if codes else []
    categories = [*(encode_codes[-1].categories_ if codes else []), *(encode_texts.categories_ if texts else [])]
    code_terms, first = {}, len(numeric)
    for name, fill, values in zip([*codes, *texts], [*fills, *[MISSING_CODE] * len(texts)], categories, strict=True):
        names = to_codes(pd.Series(values), columns.columns[name])
        last = first + len(values)
        (filled,) = to_codes(pd.Series([fill]), columns.columns[name])
        code_terms[name] = CodeTerm(
            fill=filled, coefficients=dict(zip(names, coefficients[first:last].tolist(), strict=True))
        )
        first = last
    return LogisticTerms(intercept=float(model.intercept_[0]), numeric=terms, codes=code_terms)

"""Logistic regression on imputed, scaled and one-hot encoded columns: a model step, and the baseline of every kind."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from stepkit.settings.model import LogisticRegressionSettings
from stepkit.table.columns import Columns
from training.pipeline import build_encoder, fit_pipeline

log = logging.getLogger("step")


def build_classifier(
    settings: LogisticRegressionSettings, random_seed: int, monotonic: list[int] | None = None
) -> LogisticRegression:
    """Return the unfitted logistic regression; it ignores the directions of the encoded features."""
    if monotonic:
        log.info("logistic_regression: the key monotonic in data/*.yaml does not apply; no coefficient is limited")
    solver = "saga" if settings.logistic_regression.l1_ratio else "lbfgs"  # lbfgs is faster but takes no lasso penalty
    return LogisticRegression(solver=solver, random_state=random_seed, **settings.logistic_regression.model_dump())


def fit_logistic_regression(
    settings: LogisticRegressionSettings, columns: Columns, rows: pd.DataFrame, labels: np.ndarray, random_seed: int
) -> Pipeline:
    """Return the fitted pipeline: n raw rows -> imputed, scaled and one-hot encoded -> logistic regression.

    Raises:
        BadParameter: a feature is not a column of the data set.
    """
    encoder = build_encoder(settings.features, columns, scaled=True)
    return fit_pipeline(encoder, lambda _: build_classifier(settings, random_seed), columns, rows, labels)

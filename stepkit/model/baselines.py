"""Baselines of a model (baselines.json): the best single column and a logistic regression, fitted on the model's rows.

A model step fits and publishes them; evaluate scores them on the test split, with numpy and pandas alone.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from stepkit.model.single_column import MISSING_CODE, Ranking, to_codes, to_numbers
from stepkit.table.columns import Columns, Strict

BASELINES = "baselines.json"
"""Artifact of a model step."""

Missing = float | Literal["lowest", "highest"]


class SingleColumn(Strict):
    """Ranking of the rows by one column.

    Attributes:
        column: name of the column.
        auc: ROC AUC on the training rows; for codes, of shares of class 1 learnt on other training rows.
        sign: 1 if larger numbers mean class 1, -1 if smaller ones do.
        missing: score of a missing number, "lowest" and "highest" being below and above all others.
        rates: share of class 1 of each code, with "" for a missing value; None for a numeric column.
        unseen: score of a code that `rates` does not have.
    """

    column: str
    auc: float
    sign: Literal[-1, 1] = 1
    missing: Missing = 0.0
    rates: dict[str, float] | None = None
    unseen: float = 0.0

    def compute_scores(self, table: pd.DataFrame, columns: Columns) -> np.ndarray:
        """Return (n,) scores of n rows; a higher score means class 1."""
        values = table[self.column]
        if self.rates is not None:
            return _look_up(to_codes(values, columns.columns[self.column]), self.rates, self.unseen)
        scores = self.sign * to_numbers(values)
        missing = {"lowest": -math.inf, "highest": math.inf}.get(str(self.missing), self.missing)
        scores[np.isnan(scores)] = missing
        return scores


class NumericTerm(Strict):
    """Term of a numeric column: (value, or `fill` if missing, - mean) / scale * coefficient."""

    fill: float
    mean: float
    scale: float
    coefficient: float


class CodeTerm(Strict):
    """Term of a column of codes: the coefficient of the code, with `fill` for a missing one; 0 for an unseen code."""

    fill: str
    coefficients: dict[str, float]


class LogisticTerms(Strict):
    """Logistic regression on imputed, scaled and one-hot encoded columns."""

    intercept: float
    numeric: dict[str, NumericTerm]
    codes: dict[str, CodeTerm]

    def compute_scores(self, table: pd.DataFrame, columns: Columns) -> np.ndarray:
        """Return (n,) log odds of class 1 for n rows."""
        scores = np.full(len(table), self.intercept)
        for name, term in self.numeric.items():
            values = to_numbers(table[name])
            filled = np.where(np.isnan(values), term.fill, values)
            scores += (filled - term.mean) / term.scale * term.coefficient
        for name, codes in self.codes.items():
            texts = to_codes(table[name], columns.columns[name])
            scores += _look_up(texts.where(texts != MISSING_CODE, codes.fill), codes.coefficients, 0.0)
        return scores


def _look_up(codes: pd.Series, scores: dict[str, float], unseen: float) -> np.ndarray:
    places, names = pd.factorize(codes)
    found: np.ndarray = np.array([scores.get(str(name), unseen) for name in names])[places]
    return found


class Baselines(Strict):
    """Content of baselines.json.

    Attributes:
        rows: number of training rows.
        aucs: ROC AUC of each input column of the model alone, on the training rows; empty for a tiny table.
    """

    rows: int = Field(gt=0)
    aucs: dict[str, float]
    single_column: SingleColumn | None
    logistic_regression: LogisticTerms


def to_missing(ranking: Ranking) -> Missing:
    """Return the score of a missing value as in baselines.json, which has no infinite numbers."""
    if math.isinf(ranking.missing):
        return "highest" if ranking.missing > 0 else "lowest"
    return ranking.missing

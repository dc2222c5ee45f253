"""ROC AUC of each input column alone: the simplest model to beat, and the sign of a column that leaks the label.

A number ranks the rows by its value, in the better direction. A code ranks them by its share of class 1. Missing values
take the best of three places among numbers, and are a code of their own among codes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stepkit.table.columns import Column, Columns
from stepkit.table.tables import to_plain_text

SUSPICIOUS_AUC = 0.98
"""A column that ranks the rows this well alone probably holds the label, or a value that is known only after it."""

FEWEST_ROWS, FEWEST_OF_A_CLASS = 20, 5
"""Smallest table with suspicions. With 5 rows of class 1 in 20, a column of random numbers reaches the limit once in
3,876 cases; with 3 in 18, it would once in 408."""

MOST_ROWS = 200_000
"""Rows of a larger table that are drawn at random, which limits the work."""

FOLDS = 5
SEED = 0
MISSING_CODE = ""


@dataclass(frozen=True)
class Ranking:
    """Ranking of the rows by one column.

    Attributes:
        auc: ROC AUC on the rows that it was learnt from; for codes, of shares learnt on other rows.
        sign: 1 if larger numbers mean class 1, -1 if smaller ones do; 1 for codes.
        missing: score of a missing value: the ranking's middle, or -inf or inf if missing means class 0 or 1.
    """

    auc: float
    sign: int = 1
    missing: float = 0.0


@dataclass(frozen=True)
class Suspicion:
    """Column that ranks the rows suspiciously well alone. `checked` is True if the description calls it harmless."""

    column: str
    auc: float
    checked: bool


def compute_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the ROC AUC of (n,) scores without NaN; NaN unless both classes occur."""
    order = np.argsort(scores)
    ordered, positive = scores[order], labels[order].astype(float)
    # Rows with an equal score form one group; each of its positives is above half of its negatives.
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    positives = np.add.reduceat(positive, starts)
    negatives = np.add.reduceat(1 - positive, starts)
    below = np.cumsum(negatives) - negatives / 2
    pairs = positives.sum() * negatives.sum()
    return float(positives @ below / pairs) if pairs else math.nan


def rank_by_number(values: np.ndarray, labels: np.ndarray) -> Ranking:
    """Return the better direction of (n,) numbers, with NaN for missing ones, and the best place of the missing."""
    is_missing = np.isnan(values)
    if is_missing.all():
        return Ranking(0.5)
    middle = float(np.median(values[~is_missing]))
    rankings = []
    for place in (middle, -math.inf, math.inf) if is_missing.any() else (middle,):
        auc = compute_auc(labels, np.where(is_missing, place, values))
        rankings.append(Ranking(auc, 1, place) if auc >= 0.5 else Ranking(1 - auc, -1, -place))
    return max(rankings, key=lambda ranking: ranking.auc)


def to_codes(values: pd.Series, column: Column) -> pd.Series:
    """Return n values as texts that name their codes, with "" for a missing value: 1.0 and 1 are the code "1"."""
    texts = values.astype("string") if column.type == "text" else to_plain_text(values)
    return texts.astype(object).where(texts.notna(), MISSING_CODE)


def compute_rates(codes: pd.Series, labels: np.ndarray) -> dict[str, float]:
    """Return the share of class 1 of each code."""
    places, names = pd.factorize(codes)
    rates = np.bincount(places, labels) / np.bincount(places)
    return dict(zip(map(str, names), rates.tolist(), strict=True))


def compute_code_auc(codes: pd.Series, labels: np.ndarray) -> float:
    """Return the ROC AUC of the codes' shares of class 1, which are learnt on other rows than those they rank.

    Shares of the same rows would rank an identifier perfectly. The mean over five parts of the rows, each ranked by the
    shares in the other parts; a code that the other parts do not have gets the share of all of their rows.
    """
    places, names = pd.factorize(codes)
    parts = assign_folds(labels)
    shape = (2, FOLDS, len(names))
    counts = np.bincount(np.ravel_multi_index((labels, parts, places), shape), minlength=math.prod(shape)).reshape(
        shape
    )
    aucs = []
    for part in range(FOLDS):
        negatives, positives = counts.sum(axis=1) - counts[:, part]
        rows = negatives + positives
        rates = np.where(rows > 0, positives / np.maximum(rows, 1), positives.sum() / max(rows.sum(), 1))
        ranked = rates[places[parts == part]]
        aucs.append(compute_auc(labels[parts == part], ranked))
    return float(np.mean(aucs))


def assign_folds(labels: np.ndarray) -> np.ndarray:
    """Return (n,) a part from 0 to FOLDS - 1 for each row, drawn at random within each class."""
    random, parts = np.random.default_rng(SEED), np.zeros(len(labels), dtype=int)
    for label in (0, 1):
        rows = np.flatnonzero(labels == label)
        parts[random.permutation(rows)] = np.arange(len(rows)) % FOLDS
    return parts


def compute_column_auc(values: pd.Series, column: Column, labels: np.ndarray) -> float:
    """Return the ROC AUC of one column alone, 0.5 or more for numbers; labels are (n,) of 0 and 1."""
    if column.role == "categorical":
        return compute_code_auc(to_codes(values, column), labels)
    return rank_by_number(to_numbers(values), labels).auc


def to_numbers(values: pd.Series) -> np.ndarray:
    """Return (n,) numbers, with NaN for missing values and texts."""
    numbers: np.ndarray = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    return numbers


def compute_column_aucs(
    table: pd.DataFrame, columns: Columns, labels: np.ndarray, names: list[str]
) -> dict[str, float]:
    """Return the ROC AUC of each of these columns alone on n rows; none unless each class has FEWEST_OF_A_CLASS rows.

    `labels` are (n,) of 0, 1 and NaN for a row without a label, which does not count.
    """
    rows = np.flatnonzero(np.isfinite(labels))
    if len(rows) > MOST_ROWS:
        rows = np.sort(np.random.default_rng(SEED).choice(rows, MOST_ROWS, replace=False))
    known_labels = labels[rows].astype(int)
    positives = int(known_labels.sum())
    if min(positives, len(rows) - positives) < FEWEST_OF_A_CLASS or len(rows) < FEWEST_ROWS:
        return {}
    selected = table.iloc[rows]
    return {name: compute_column_auc(selected[name], columns.columns[name], known_labels) for name in names}


def find_suspicions(aucs: dict[str, float], columns: Columns) -> list[Suspicion]:
    """Return the columns whose ROC AUC alone is at least SUSPICIOUS_AUC, the highest first."""
    suspicions = [
        Suspicion(name, auc, name in columns.leakage_checked) for name, auc in aucs.items() if auc >= SUSPICIOUS_AUC
    ]
    return sorted(suspicions, key=lambda suspicion: -suspicion.auc)


def explain_suspicions(suspicions: list[Suspicion]) -> str:
    """Return a warning that names the columns which the description does not call harmless; "" if there are none."""
    columns = [f"{suspicion.column} ({suspicion.auc:.3f})" for suspicion in suspicions if not suspicion.checked]
    if not columns:
        return ""
    return (
        f"possible leakage, ROC AUC of one column alone: {', '.join(columns)} (limit {SUSPICIOUS_AUC}). In "
        "data/*.yaml, remove a column whose value is unknown at the time of a prediction, or list it in leakage_checked"
    )

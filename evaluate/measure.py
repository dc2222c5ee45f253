"""Measurements of a model on the test split. Pure functions, which benchmarks/plain.py calls too.

The importance of a column is the loss of ROC AUC when the column is shuffled, with DeLong's paired interval
(permutation importance, Breiman: Random Forests, Machine Learning 45, 2001). The effect of a column on a row is that of
the reasons for an answer (stepkit/model/reasons.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from evaluate.bootstrap import MOST_ROWS, Bootstrap
from evaluate.calibration import Calibration, measure_calibration
from evaluate.slices import Slice, build_slices, choose_slice_metric, find_worst_slice
from stepkit.model.metrics import Scored, count_confusion
from stepkit.model.statistics import BINS_BY, Interval, compute_auc_difference
from stepkit.settings.evaluate import Evaluation
from stepkit.table.columns import Columns
from stepkit.table.tables import add_column, to_model_input

Predict = Callable[[pd.DataFrame], np.ndarray]
"""Function from n rows, as the model takes them, to (n,) probabilities."""


EFFECT_ROWS = 500


@dataclass(frozen=True)
class Importance(Interval):
    """Loss of ROC AUC when a column is shuffled, with its interval, and the mean absolute effect of the column.

    Attributes:
        effect: NaN for a model without reasons; 0 for a column that is not an input.
    """

    column: str
    label: str
    effect: float = math.nan


@dataclass(frozen=True)
class Effects:
    """Effects of a model's k columns on the probabilities of n rows, against its reference row.

    Attributes:
        rows: n rows with the k columns, as the model takes them.
        values: (n, k) effects.
        reference: value of each column in the reference row; None for a missing one.
    """

    rows: pd.DataFrame
    values: np.ndarray
    reference: dict[str, Any]

    @property
    def strength(self) -> dict[str, float]:
        """Mean absolute effect of each column."""
        return dict(zip(self.rows.columns, np.abs(self.values).mean(axis=0).tolist(), strict=True))


def compute_effects(predictor: Any, table: pd.DataFrame, columns: Columns, seed: int) -> Effects | None:
    """Return the effects on a sample of at most EFFECT_ROWS rows; None for a model of an earlier release.

    `predictor` is the Predictor of training/served_model.py that MLflow has loaded.
    """
    if not getattr(predictor, "reasons", None) or not hasattr(predictor, "compute_effects"):
        return None
    rows = to_model_input(table.iloc[sample_rows(len(table), EFFECT_ROWS, seed)], columns)[predictor.names]
    return Effects(rows, predictor.compute_effects(rows), predictor.reasons["reference"])


def compute_importance(
    predict: Predict, rows: pd.DataFrame, labels: np.ndarray, columns: Columns, seed: int, level: float
) -> list[Importance]:
    """Return the importance of each column of `rows`, largest first; 0 for a column that the model does not use.

    `rows` are n rows as the model takes them, `labels` (n,) of 0 and 1, and `level` is that of the intervals.
    """
    random = np.random.default_rng(seed)
    before = predict(rows)
    importance = []
    for name in rows.columns:
        shuffled = add_column(rows, name, rows[name].to_numpy()[random.permutation(len(rows))])
        drop = compute_auc_difference(labels, before, predict(shuffled), level)
        importance.append(Importance(**drop.to_dict(), column=name, label=columns.columns[name].label or name))
    return sorted(importance, key=lambda column: -np.nan_to_num(column.value, nan=-1.0))


def sample_rows(rows: int, most: int, seed: int) -> np.ndarray:
    """Return the places of at most `most` of `rows` rows, in ascending order."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


@dataclass(frozen=True)
class Assessment:
    """Measurements on n rows: metrics with intervals, calibration, slices, importance and effects of columns."""

    scored: Scored
    metrics: dict[str, Interval]
    calibration: Calibration
    slices: list[Slice]
    importance: list[Importance]
    effects: Effects | None = None

    @property
    def values(self) -> dict[str, float]:
        """Metrics without their intervals."""
        return get_values(self.metrics)


def get_values(metrics: dict[str, Interval]) -> dict[str, float]:
    """Return metrics without their intervals."""
    return {name: interval.value for name, interval in metrics.items()}


def assess_model(
    scored: Scored,
    table: pd.DataFrame,
    predict: Predict,
    columns: Columns,
    settings: Evaluation,
    seed: int,
    effects: Effects | None = None,
) -> Assessment:
    """Measure a model on the n rows of `table`; `scored` has its predictions for them.

    The importance of columns needs further predictions, which `predict` returns.
    """
    bootstrap = make_bootstrap(settings, seed)
    sampled = sample_rows(len(table), settings.importance_rows, seed)
    rows = to_model_input(table.iloc[sampled], columns)
    metrics = bootstrap.compute_intervals(scored)
    importance = compute_importance(predict, rows, scored.labels[sampled], columns, seed, settings.level)
    if effects:
        strength = effects.strength
        importance = [replace(column, effect=strength.get(column.column, 0.0)) for column in importance]
    return Assessment(
        scored,
        metrics,
        measure_calibration(scored.probability, metrics["calibration_error"], seed),
        build_slices(scored, table, columns, settings.slices, bootstrap),
        importance,
        effects,
    )


def make_bootstrap(settings: Evaluation, seed: int) -> Bootstrap:
    """Return the bootstrap with the settings of the evaluation."""
    return Bootstrap(settings.resamples, seed, settings.level, settings.costs)


def build_report(assessed: Assessment, threshold: float, settings: Evaluation, seed: int) -> dict[str, Any]:
    """Return the content of evaluation.json, without the comparison with the champion."""
    scored = assessed.scored
    worst = find_worst_slice(assessed.slices, settings.slices, choose_slice_metric(settings.gate.metric))
    rows = len(scored)
    capped = f", of {MOST_ROWS:,} of {rows:,} rows and scaled" if rows > MOST_ROWS else ""
    total = float(settings.costs.compute_per_row(scored.labels, scored.predicted).sum())
    return {
        "rows": rows,
        "positives": int(scored.labels.sum()),
        "threshold": threshold,
        "metrics": {name: interval.to_dict() for name, interval in assessed.metrics.items()},
        "champion": None,
        "difference": {},
        "calibration_bins": BINS_BY,
        "calibration": assessed.calibration.to_dict(),
        "confusion": count_confusion(scored.labels, scored.predicted),
        "cost": {"matrix": settings.costs.model_dump(), "per_row": total / rows, "total": total},
        "slices": [part.to_dict() for part in assessed.slices],
        "worst_slice": worst.to_dict() if worst else None,
        "importance": [column.to_dict() for column in assessed.importance],
        "reference_row": assessed.effects.reference if assessed.effects else {},
        "intervals": {
            "method": f"percentile bootstrap over rows{capped}",
            "resamples": settings.resamples,
            "seed": seed,
            "level": settings.level,
        },
    }

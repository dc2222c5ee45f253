"""All that is measured of a model on the test split, as one report: pure, so that a plain script can do the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from evaluate.bootstrap import MOST_ROWS, Bootstrap
from evaluate.importance import Importance, Predict, importance, sample_rows
from evaluate.slices import Slice, build_slices, choose_slice_metric, find_worst_slice
from stepkit.model.metrics import Scored, count_confusion
from stepkit.model.statistics import BINS_BY, Interval
from stepkit.settings.evaluate import Evaluation
from stepkit.table.columns import Columns
from stepkit.table.tables import to_model_input


@dataclass(frozen=True)
class Assessment:
    """What was measured on n rows: metrics with intervals, slices, importance of columns."""

    scored: Scored
    metrics: dict[str, Interval]
    slices: list[Slice]
    importance: list[Importance]

    @property
    def values(self) -> dict[str, float]:
        return get_values(self.metrics)


def get_values(metrics: dict[str, Interval]) -> dict[str, float]:
    return {name: interval.value for name, interval in metrics.items()}


def assess_model(
    scored: Scored, table: pd.DataFrame, predict: Predict, columns: Columns, settings: Evaluation, seed: int
) -> Assessment:
    """Measure a model on n rows.

    Args:
        scored: its answers to the rows of `table`.
        predict: asks it about others, for the importance of columns.
    """
    how = make_bootstrap(settings, seed)
    chosen = sample_rows(len(table), settings.importance_rows, seed)
    rows = to_model_input(table.iloc[chosen], columns)
    return Assessment(
        scored,
        how.compute_intervals(scored),
        build_slices(scored, table, columns, settings.slices, how),
        importance(predict, rows, scored.labels[chosen], columns, seed, settings.level),
    )


def make_bootstrap(settings: Evaluation, seed: int) -> Bootstrap:
    return Bootstrap(settings.resamples, seed, settings.level, settings.costs)


def build_report(assessed: Assessment, threshold: float, settings: Evaluation, seed: int) -> dict[str, Any]:
    """Return what was measured, as evaluation.json holds it: without the champion."""
    scored = assessed.scored
    worst = find_worst_slice(assessed.slices, settings.slices, choose_slice_metric(settings.gate.metric))
    rows = len(scored)
    capped = f", of {MOST_ROWS:,} of {rows:,} rows and scaled" if rows > MOST_ROWS else ""
    total = float(settings.costs.select(scored.labels, scored.predicted).sum())
    return {
        "rows": rows,
        "positives": int(scored.labels.sum()),
        "threshold": threshold,
        "metrics": {name: interval.to_dict() for name, interval in assessed.metrics.items()},
        "champion": None,
        "difference": {},
        "calibration_bins": BINS_BY,
        "confusion": count_confusion(scored.labels, scored.predicted),
        "cost": {"matrix": settings.costs.model_dump(), "per_row": total / rows, "total": total},
        "slices": [one.to_dict() for one in assessed.slices],
        "worst_slice": worst.to_dict() if worst else None,
        "importance": [one.to_dict() for one in assessed.importance],
        "intervals": {
            "method": f"percentile bootstrap over rows{capped}",
            "resamples": settings.resamples,
            "seed": seed,
            "level": settings.level,
        },
    }

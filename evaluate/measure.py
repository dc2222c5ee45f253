"""All that is measured of a model on the test split, as one report: pure, so that a plain script can do the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from evaluate.bootstrap import MOST_ROWS, Bootstrap
from evaluate.importance import Importance, Predict, importance, sampled
from evaluate.slices import Slice, compared_by, sliced, worst_of
from stepkit.model.metrics import Scored, confusion
from stepkit.model.statistics import BINS_BY, Interval
from stepkit.settings.evaluate import Evaluation
from stepkit.table.columns import Columns
from stepkit.table.tables import as_model_input


@dataclass(frozen=True)
class Assessed:
    """What was measured on n rows: metrics with intervals, slices, importance of columns."""

    scored: Scored
    metrics: dict[str, Interval]
    slices: list[Slice]
    importance: list[Importance]

    @property
    def values(self) -> dict[str, float]:
        return values_of(self.metrics)


def values_of(metrics: dict[str, Interval]) -> dict[str, float]:
    return {name: interval.value for name, interval in metrics.items()}


def assess(
    scored: Scored, table: pd.DataFrame, predict: Predict, columns: Columns, settings: Evaluation, seed: int
) -> Assessed:
    """Measure a model on n rows.

    Args:
        scored: its answers to the rows of `table`.
        predict: asks it about others, for the importance of columns.
    """
    how = bootstrap(settings, seed)
    chosen = sampled(len(table), settings.importance_rows, seed)
    rows = as_model_input(table.iloc[chosen], columns)
    return Assessed(
        scored,
        how.intervals(scored),
        sliced(scored, table, columns, settings.slices, how),
        importance(predict, rows, scored.labels[chosen], columns, seed, settings.level),
    )


def bootstrap(settings: Evaluation, seed: int) -> Bootstrap:
    return Bootstrap(settings.resamples, seed, settings.level, settings.costs)


def report(assessed: Assessed, threshold: float, settings: Evaluation, seed: int) -> dict[str, Any]:
    """Return what was measured, as evaluation.json holds it: without the champion."""
    scored = assessed.scored
    worst = worst_of(assessed.slices, settings.slices, compared_by(settings.gate.metric))
    rows = len(scored)
    capped = f", of {MOST_ROWS:,} of {rows:,} rows and scaled" if rows > MOST_ROWS else ""
    total = float(settings.costs.of(scored.labels, scored.predicted).sum())
    return {
        "rows": rows,
        "positives": int(scored.labels.sum()),
        "threshold": threshold,
        "metrics": {name: interval.as_dict() for name, interval in assessed.metrics.items()},
        "champion": None,
        "difference": {},
        "calibration_bins": BINS_BY,
        "confusion": confusion(scored.labels, scored.predicted),
        "cost": {"matrix": settings.costs.model_dump(), "per_row": total / rows, "total": total},
        "slices": [one.as_dict() for one in assessed.slices],
        "worst_slice": worst.as_dict() if worst else None,
        "importance": [one.as_dict() for one in assessed.importance],
        "intervals": {
            "method": f"percentile bootstrap over rows{capped}",
            "resamples": settings.resamples,
            "seed": seed,
            "level": settings.level,
        },
    }

"""Metrics per period of the test split: months, quarters or years, for a table with the date of each row."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from evaluate.bootstrap import Bootstrap
from stepkit.model.metrics import Scored
from stepkit.model.statistics import Interval
from stepkit.settings.evaluate import Slices
from stepkit.table.columns import Columns
from stepkit.table.dates import format_dates, parse_dates

MOST_PERIODS = 12
UNITS = {"month": 1, "quarter": 3, "year": 12, "5 years": 60, "20 years": 240}
"""Periods and their months; the shortest one that gives at most MOST_PERIODS is used."""


def build_periods(
    scored: Scored, table: pd.DataFrame, columns: Columns, settings: Slices, bootstrap: Bootstrap
) -> dict[str, Any] | None:
    """Return the metrics of n scored rows per period, as in evaluation.json; None for a table without dates.

    Each period has its rows, positives, default rate, mean probability and their difference (`excess`, with an
    interval). ROC AUC (with an interval) and calibration error are None, with a `reason`, if the period has too few
    rows: `min_rows` and `min_positives` of the slices.

    Args:
        scored: predictions for the rows.
        table: the rows (n), with the time column.
        columns: description of the table.
        settings: limits and resamples, as for slices.
        bootstrap: method of the intervals.
    """
    if not columns.time_column or columns.time_column not in table:
        return None
    dates = parse_dates(table[columns.time_column])
    if dates.isna().all():
        return None
    months = (dates.dt.year * 12 + dates.dt.month - 1).to_numpy(dtype=float, na_value=np.nan)
    unit = choose_unit(months)
    periods = []
    for number, (name, mask) in enumerate(iter_periods(months, unit)):
        # Periods of equal size must not share their draws, so each has its own seed.
        seeded = replace(bootstrap, resamples=settings.resamples, seed=bootstrap.seed + 1 + number)
        first, last = format_dates(pd.Series([dates[mask].min(), dates[mask].max()]))
        periods.append({"period": name, "first": first, "last": last, **measure(scored.select(mask), settings, seeded)})
    return {"column": columns.time_column, "unit": unit, "undated": int(dates.isna().sum()), "periods": periods}


def choose_unit(months: np.ndarray) -> str:
    """Return the shortest unit that gives at most MOST_PERIODS periods; `months` are (n,) numbers since year 0."""
    known = months[np.isfinite(months)]
    counts = {unit: len(np.unique(known // length)) for unit, length in UNITS.items()}
    return next((unit for unit, count in counts.items() if count <= MOST_PERIODS), list(UNITS)[-1])


def iter_periods(months: np.ndarray, unit: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (name, (n,) mask) for each period that contains any of n months, oldest first."""
    length = UNITS[unit]
    numbers = months // length
    for number in np.unique(numbers[np.isfinite(numbers)]):
        year, month = divmod(int(number) * length, 12)
        last_year = year + length // 12 - 1
        names = {"month": f"{year}-{month + 1:02}", "quarter": f"{year} Q{month // 3 + 1}", "year": str(year)}
        yield names.get(unit, f"{year} to {last_year}"), numbers == number


def measure(rows: Scored, settings: Slices, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return the figures of the scored rows of one period."""
    positives = int(rows.labels.sum())
    reason = explain_too_few(len(rows), positives, settings)
    metrics = {} if reason else bootstrap.compute_intervals(rows)
    return {
        "rows": len(rows),
        "positives": positives,
        "default_rate": positives / len(rows),
        "mean_probability": float(rows.probability.mean()),
        "excess": compute_excess(rows, bootstrap.level).to_dict(),
        "roc_auc": metrics["roc_auc"].to_dict() if metrics else None,
        "calibration_error": metrics["calibration_error"].value if metrics else None,
        "reason": reason,
    }


def compute_excess(rows: Scored, level: float) -> Interval:
    """Return the mean probability minus the default rate, with its normal interval; no interval for a single row."""
    differences = rows.probability - rows.labels
    excess = float(differences.mean())
    if len(rows) < 2:
        return Interval(excess, np.nan, np.nan)
    reach = NormalDist().inv_cdf((1 + level) / 2) * float(differences.std(ddof=1)) / math.sqrt(len(rows))
    return Interval(excess, excess - reach, excess + reach)


def explain_too_few(rows: int, positives: int, settings: Slices) -> str | None:
    """Return the reason why a period has no metrics, or None."""
    fewest = min(positives, rows - positives)
    if fewest == 0:
        return f"only class {1 if positives else 0}"
    if rows < settings.min_rows:
        return f"fewer than {settings.min_rows} rows"
    if fewest < settings.min_positives:
        return f"fewer than {settings.min_positives} rows of class {1 if positives == fewest else 0}"
    return None

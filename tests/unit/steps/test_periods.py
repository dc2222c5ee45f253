"""evaluate.periods: metrics of the test split per month, quarter or year."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evaluate.bootstrap import Bootstrap
from evaluate.periods import build_periods, choose_unit, compute_excess, iter_periods
from stepkit.model.metrics import Scored
from stepkit.settings.evaluate import Costs, Slices
from stepkit.table.columns import Column, Columns

HOW = Bootstrap(100, 1, 0.95, Costs())
COLUMNS = Columns(source_target="y", target="y", time_column="day", columns={"x": Column()})
LIMITS = Slices(min_rows=30, min_positives=5, resamples=100)


def make_scored(labels: np.ndarray) -> Scored:
    probability = np.clip(labels * 0.4 + np.random.default_rng(3).random(len(labels)) * 0.5, 0, 1)
    return Scored(labels, probability, (probability >= 0.5).astype(int))


@pytest.mark.parametrize(
    ("count", "unit", "names"),
    [
        (12, "month", ["2015-01", "2015-12"]),
        (13, "quarter", ["2015 Q1", "2016 Q1"]),
        (37, "year", ["2015", "2018"]),
        (145, "5 years", ["2015 to 2019", "2025 to 2029"]),
    ],
)
def test_the_periods_are_so_long_that_there_are_at_most_twelve(count: int, unit: str, names: list[str]) -> None:
    months = np.append(2015.0 * 12 + np.arange(count), np.nan)
    assert choose_unit(months) == unit
    periods = list(iter_periods(months, unit))
    assert [periods[0][0], periods[-1][0]] == names
    assert sum(mask.sum() for _, mask in periods) == count, "a row without a date belongs to no period"


def test_a_period_has_its_figures_or_the_reason_why_not() -> None:
    labels = np.concatenate([[0, 1] * 50, np.zeros(40), [1] * 3 + [0] * 47, [1, 0] * 5]).astype(int)
    days = ["2015-01-15"] * 100 + ["2015-02-15"] * 40 + ["2015-03-15"] * 50 + ["2015-04-15"] * 9 + [None]
    scored = make_scored(labels)
    result = build_periods(scored, pd.DataFrame({"day": days}), COLUMNS, LIMITS, HOW)
    assert result is not None
    assert (result["column"], result["unit"], result["undated"]) == ("day", "month", 1)
    first, second, third, fourth = result["periods"]
    assert (first["period"], first["first"], first["rows"], first["default_rate"]) == (
        "2015-01",
        "2015-01-15",
        100,
        0.5,
    )
    assert first["mean_probability"] == pytest.approx(scored.probability[:100].mean())
    assert first["roc_auc"]["low"] <= first["roc_auc"]["value"] <= first["roc_auc"]["high"]
    assert first["calibration_error"] > 0
    assert [part["reason"] for part in (first, second, third, fourth)] == [
        None, "only class 0", "fewer than 5 rows of class 1", "fewer than 30 rows",
    ]  # fmt: skip
    assert all(part["roc_auc"] is None and part["calibration_error"] is None for part in (second, third, fourth))


def test_the_excess_is_the_mean_probability_above_the_default_rate() -> None:
    scored = Scored(np.array([0, 0, 1, 0]), np.array([0.4, 0.2, 0.8, 0.6]), np.array([0, 0, 1, 1]))
    excess = compute_excess(scored, 0.95)
    assert excess.value == pytest.approx(0.25)
    reach = 1.959964 * np.std([0.4, 0.2, -0.2, 0.6], ddof=1) / 2
    assert (excess.low, excess.high) == pytest.approx((0.25 - reach, 0.25 + reach))
    assert np.isnan(compute_excess(scored.select(np.array([0])), 0.95).low)


def test_a_table_without_dates_has_no_periods() -> None:
    scored, table = make_scored(np.array([0, 1] * 5)), pd.DataFrame({"day": [None] * 10})
    assert build_periods(scored, table, COLUMNS, LIMITS, HOW) is None
    undated = Columns(source_target="y", target="y", columns={"x": Column()})
    assert build_periods(scored, table, undated, LIMITS, HOW) is None

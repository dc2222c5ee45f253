"""Aggregate figures that clients are drawn from, and the cells of the figures.

A cell is a group of clients, or of client months, with one distribution. `simulate.fit` counts in cells and
`simulate.clients` draws from them; both number them with the functions of this file.
Source: Default of Credit Card Clients, UCI data set 350, I-Cheng Yeh 2009, CC BY 4.0, DOI 10.24432/C55S3H.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

FIGURES = Path(__file__).with_name("figures.json")
TARGET = "default payment next month"
PEOPLE = ("SEX", "EDUCATION", "MARRIAGE")
STATUSES = ("PAY_6", "PAY_5", "PAY_4", "PAY_3", "PAY_2", "PAY_0")
BILLS = tuple(f"BILL_AMT{month}" for month in range(6, 0, -1))
PAYMENTS = tuple(f"PAY_AMT{month}" for month in range(6, 0, -1))
COLUMNS = ("ID", "LIMIT_BAL", *PEOPLE, "AGE", *STATUSES[::-1], *BILLS[::-1], *PAYMENTS[::-1], TARGET)
MONTHS = len(STATUSES)

LOWEST_STATUS = -2
STATUS_CODES = 11  # -2 .. 8
LONG_ARREARS = 3  # the real table has too few longer delays to use more than the previous month
LIMIT_EDGES = (30_000, 80_000, 150_000, 250_000)
USE_EDGES = (0.0, 0.02, 0.1, 0.25, 0.4, 0.6, 0.8, 0.9, 0.96, 1.0, 1.04)  # of the limit, by last month's bill
COARSE_USE_EDGES = (0.0, 0.1, 0.6, 0.96)
NEAR_LIMIT = (0.9, 1.04)  # in this range, the limit predicts the next bill better than the last bill does
COARSE_LIMIT_EDGES = (80_000, 250_000)
BILL_EDGES = (0, 2_000, 10_000, 20_000, 50_000, 100_000)
AGE_EDGES = (25, 30, 40)
AMOUNT_EDGES = (100, 200, 300, 500, 700, 1_000, 1_500, 2_000, 3_000, 4_000, 5_000, 6_000, 8_000, 10_000)
AGE_CELLS, LIMIT_CELLS = 18, 24
FIRST_STATUS_CELLS, STATUS_CELLS = 15, 381
FIRST_BILL_CELLS, BILL_CELLS = 25, 540
KIND_CELLS, PART_CELLS = 175, 35
ROUND_UNITS = np.array([1_000, 500, 100, 1])  # people pay 2,000 rather than 1,987


@dataclass(frozen=True)
class Figures:
    """Aggregate figures as arrays, with cumulative frequencies and one row per cell."""

    grid: Floats  # (k,) probabilities at which every amount table gives its quantiles
    people: Ints  # (combinations x 3) codes of SEX, EDUCATION, MARRIAGE
    people_cumulative: Floats  # (1 x combinations)
    ages: Ints
    ages_cumulative: Floats  # (age cells x ages)
    limits: Ints
    limits_cumulative: Floats  # (limit cells x limits)
    first_status: Floats  # (first status cells x 11), April
    next_status: Floats  # (5 months x status cells x 11), May to September
    nothing_first: Floats  # (first bill cells) share whose bill is 0 in April
    nothing_next: Floats  # (bill cells) the same for May to September
    first_bill: Floats  # (first bill cells x k) other bills as a share of the limit
    next_bill: Floats  # (bill cells x k) the same; where debt is carried, its change since last month
    nothing_paid: Floats  # (6 months x kind cells) share that pays nothing
    full_paid: Floats  # (6 months x kind cells) share that pays exactly the bill
    parts: Floats  # (6 months x part cells x k) other payments as a share of the bill; dollars if none is due
    rounding: Floats  # (amount bands x 4) over ROUND_UNITS
    mixing: Floats  # (13 x 13) lower triangle that turns independent normal scores into linked ones
    risk: dict[str, float]  # log-odds of default by term, with "intercept"


@lru_cache(maxsize=1)
def read_figures() -> Figures:
    """Return the committed figures, which simulate/fit.py writes."""
    return build_figures(json.loads(FIGURES.read_text(encoding="utf-8")))


def build_figures(raw: dict[str, Any]) -> Figures:
    """Return `raw` (the content of figures.json) as arrays; counts become cumulative frequencies."""
    return Figures(
        grid=np.array(raw["grid"], dtype=float),
        people=np.array(raw["people"]["codes"]),
        people_cumulative=to_cumulative(raw["people"]["counts"]),
        ages=np.array(raw["age"]["values"]),
        ages_cumulative=to_cumulative(raw["age"]["counts"]),
        limits=np.array(raw["limit"]["values"]),
        limits_cumulative=to_cumulative(raw["limit"]["counts"]),
        first_status=to_cumulative(raw["statuses"]["april"]),
        next_status=np.stack([to_cumulative(month) for month in raw["statuses"]["next"]]),
        nothing_first=np.array(raw["bills"]["april"]["nothing"], dtype=float),
        nothing_next=np.array(raw["bills"]["next"]["nothing"], dtype=float),
        first_bill=np.array(raw["bills"]["april"]["other"], dtype=float),
        next_bill=np.array(raw["bills"]["next"]["other"], dtype=float),
        nothing_paid=np.array(raw["payments"]["nothing"], dtype=float),
        full_paid=np.array(raw["payments"]["full"], dtype=float),
        parts=np.array(raw["payments"]["part"], dtype=float),
        rounding=to_cumulative(raw["payments"]["rounding"]),
        mixing=np.linalg.cholesky(np.array(raw["correlations"], dtype=float)),
        risk=raw["risk"],
    )


def to_cumulative(counts: list[list[float]]) -> Floats:
    """Return `counts` (cells x choices) as cumulative frequencies; an empty cell takes those of all cells."""
    table = np.array(counts, dtype=float)
    table[table.sum(axis=1) == 0] = table.sum(axis=0)
    sums = table.cumsum(axis=1)
    return np.asarray(sums / sums[:, -1:])


def assign_bands(values: Ints | Floats, edges: tuple[float, ...]) -> Ints:
    """Return 0 for values up to the first edge, 1 up to the second, and so on."""
    return np.asarray(np.searchsorted(edges, values, side="left"), dtype=np.int64)


def classify_statuses(status: Ints) -> Ints:
    """Return five classes of a status: no consumption, paid duly, revolving, one month late, later."""
    return np.clip(status, LOWEST_STATUS, 2) - LOWEST_STATUS


def classify_education(education: Ints) -> Ints:
    """Return three classes of EDUCATION: graduate school, university, all other codes."""
    return np.where((education == 1) | (education == 2), education - 1, 2)


def assign_age_cells(people: Ints) -> Ints:
    """Return the cell, of 18, of the age distribution for `people` (n x 3); MARRIAGE 0 counts as 3."""
    sex, education, marriage = people.T
    return np.asarray(((sex - 1) * 3 + classify_education(education)) * 3 + np.where(marriage == 0, 3, marriage) - 1)


def assign_limit_cells(people: Ints, age: Ints) -> Ints:
    """Return the cell, of 24, of the limit distribution for `people` (n x 3) of that age."""
    sex, education, _ = people.T
    return np.asarray(((sex - 1) * 3 + classify_education(education)) * 4 + assign_bands(age, AGE_EDGES))


def assign_first_status_cells(limit: Ints, education: Ints) -> Ints:
    """Return the cell, of 15, of the distribution of April's status."""
    return assign_bands(limit, LIMIT_EDGES) * 3 + classify_education(education)


def assign_status_cells(limit: Ints, use: Floats, before: Ints, status: Ints) -> Ints:
    """Return the cell, of 381, of the transition from `status` last month and `before` in the month before.

    `use` is last month's bill as a share of the limit.
    """
    account = assign_bands(limit, COARSE_LIMIT_EDGES) * 5 + assign_bands(use, COARSE_USE_EDGES)
    early = (account * 5 + classify_statuses(before)) * 5 + classify_statuses(status)
    return np.where(status < LONG_ARREARS, early, 375 + status - LONG_ARREARS)


def assign_first_bill_cells(limit: Ints, status: Ints) -> Ints:
    """Return the cell, of 25, of the distribution of April's bill."""
    return assign_bands(limit, LIMIT_EDGES) * 5 + classify_statuses(status)


def assign_bill_cells(limit: Ints, use: Floats, before: Ints, status: Ints) -> Ints:
    """Return the cell, of 540, of the bill distribution; `use`: last bill as a share of the limit."""
    pair = np.clip(classify_statuses(before), 0, 2) * 5 + classify_statuses(status)
    return (assign_bands(limit, COARSE_LIMIT_EDGES) * 12 + assign_bands(use, USE_EDGES)) * 15 + pair


def has_carried_debt(use: Floats, before: Ints, status: Ints) -> BoolArray:
    """Return true for clients whose bill is drawn as a change of last month's bill, not independently."""
    near_limit = (use > NEAR_LIMIT[0]) & (use <= NEAR_LIMIT[1])
    return (use > 0) & ~near_limit & (before >= 0) & (status >= 0)


def assign_kind_cells(due: Ints, before: Ints, status: Ints) -> Ints:
    """Return the cell, of 175, of the chances to pay nothing or all; `due`: the bill of the month before."""
    return (assign_bands(due, BILL_EDGES) * 5 + classify_statuses(before)) * 5 + classify_statuses(status)


def assign_part_cells(due: Ints, before: Ints) -> Ints:
    """Return the cell, of 35, of the distribution of other payments."""
    return assign_bands(due, BILL_EDGES) * 5 + classify_statuses(before)


def shift_by_month(values: Ints) -> Ints:
    """Return `values` (n x 6) shifted by one month; the data begins in April, so April is used for March too."""
    return np.column_stack([values[:, 0], values[:, :-1]])


def compute_risk_terms(table: pd.DataFrame) -> pd.DataFrame:
    """Return the terms (n x 24) of the log-odds of default whose weights `simulate.fit` estimates."""
    late = {f"late {name}": table[name] >= 2 for name in STATUSES[:-1]}
    latest = {f"PAY_0 is {code}": table["PAY_0"] == code for code in (-2, -1, 1, 2)}
    paid = {f"log {name}": np.log1p(table[name]) for name in PAYMENTS}
    terms = {
        **late,
        **latest,
        **paid,
        "PAY_0 is 3 or more": table["PAY_0"] >= LONG_ARREARS,
        "months late": (table[list(STATUSES)] >= 2).sum(axis=1),
        "log LIMIT_BAL": np.log(table["LIMIT_BAL"]),
        "share of limit": table["BILL_AMT1"] / table["LIMIT_BAL"],
        "male": table["SEX"] == 1,
        "married": table["MARRIAGE"] == 1,
        "graduate school": table["EDUCATION"] == 1,
        "other education": ~table["EDUCATION"].isin((1, 2, 3)),
        "AGE": table["AGE"],
    }
    return pd.DataFrame(terms, dtype=float)

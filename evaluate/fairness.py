"""Fairness of a model: approval, errors and calibration in each group of the protected columns.

Class 0 is the favourable answer, an approval. Two comparisons between groups are judged by the gate:

- approval ratio: approval rate as a share of that of the group with the highest rate. The four-fifths rule requires 0.8
  (Uniform Guidelines on Employee Selection Procedures, 29 CFR 1607.4 D).
- opportunity gap: the highest approval rate of clients of class 0 in any group, minus that of this group (equal
  opportunity: Hardt, Price, Srebro, Equality of Opportunity in Supervised Learning, NeurIPS 2016).

Rates have Wilson intervals. Ratios and differences of two rates have intervals by the method of variance estimates
recovery (differences: Newcombe, Statistics in Medicine 17, 1998, method 10; ratios: Donner, Zou, Statistical Methods in
Medical Research 21, 2012). They also hold for few rows and for rates of 0 and 1. A column with several comparisons has
wider intervals (Sidak), because its worst group is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from mlflow.entities import RunData
from scipy import stats

from evaluate.predictions import score_graph
from stepkit.model.metrics import Scored
from stepkit.model.statistics import NOT_COMPUTED, Interval, compute_auc_difference, compute_rate, compute_sidak_level
from stepkit.settings.evaluate import Slices
from stepkit.step.run import StepRun
from stepkit.store.lineage import OUTPUT, WITHOUT_PROTECTED
from stepkit.table.columns import Column, Columns
from stepkit.table.groups import MISSING, iter_groups


@dataclass(frozen=True)
class Group:
    """Rows with the same value of a protected column, and the treatment of these rows by the model.

    Attributes:
        positives: rows of class 1.
        approval_rate: share of rows with the answer class 0.
        true_positive_rate: share of the rows of class 1 with the answer class 1.
        false_positive_rate: share of the rows of class 0 with the answer class 1.
        calibration: mean probability minus the share of class 1.
        approval_ratio: see the module; NaN if the group is not compared, and 1 for the best group.
        opportunity_gap: see the module; NaN if the group is not compared, and 0 for the best group.
    """

    value: str
    label: str
    rows: int
    positives: int
    approval_rate: Interval
    true_positive_rate: Interval
    false_positive_rate: Interval
    calibration: Interval
    approval_ratio: Interval = NOT_COMPUTED
    opportunity_gap: Interval = NOT_COMPUTED


@dataclass(frozen=True)
class ColumnFairness:
    """Groups of a protected column, and the reason why they are not compared; "" if they are."""

    column: str
    label: str
    groups: list[Group]
    reason: str = ""


@dataclass(frozen=True)
class CostOfProtected(Interval):
    """ROC AUC of the model minus that of the same model without the protected columns, with its paired interval."""

    columns: list[str]


def measure_cost(
    run: StepRun, model_run: str, training: RunData, table: pd.DataFrame, scored: Scored, level: float
) -> CostOfProtected | None:
    """Return the cost of leaving the protected columns out, on n test rows; None if it was not requested.

    Raises:
        ArtifactMissing, ArtifactDamaged: the second graph of the model step is no longer in the store, or altered.
    """
    if OUTPUT + WITHOUT_PROTECTED not in training.tags:
        return None
    probability, inputs = score_graph(run.fetch(model_run, WITHOUT_PROTECTED), table, run.columns)
    difference = compute_auc_difference(scored.labels, scored.probability, probability, level)
    columns = [run.columns.columns[name].label or name for name in run.columns.protected if name not in inputs]
    return CostOfProtected(**difference.to_dict(), columns=columns)


def to_report(fairness: list[ColumnFairness], cost: CostOfProtected | None = None) -> dict[str, Any]:
    """Return the keys of evaluation.json about the protected columns."""
    return {"fairness": [asdict(column) for column in fairness], "cost_of_protected": asdict(cost) if cost else None}


def measure_fairness(
    scored: Scored, table: pd.DataFrame, columns: Columns, settings: Slices, level: float
) -> list[ColumnFairness]:
    """Return the groups of each protected column, for n scored rows and their table with n rows.

    Args:
        scored: labels, probabilities and classes.
        table: has the protected columns; a column that it lacks is left out.
        columns: description of the data set.
        settings: fewest rows (and rows of a class) of a group that is compared.
        level: level of the intervals, such as 0.95.
    """
    return [
        measure_column(scored, table[name], name, columns.columns[name], settings, level)
        for name in columns.protected
        if name in table
    ]


def measure_column(
    scored: Scored, values: pd.Series, name: str, column: Column, settings: Slices, level: float
) -> ColumnFairness:
    """Return the groups of one protected column with n values."""
    groups = []
    for value, label, mask in iter_groups(values, column, column.bands):
        groups.append(measure_group(scored.select(np.flatnonzero(mask)), value, label, level))
    label = column.label or name
    compared = [group for group in groups if group.value != MISSING and group.rows >= settings.min_rows]
    if len(compared) < 2:
        known = sum(group.value != MISSING for group in groups)
        least = f"only {len(compared)} of {known} groups has {settings.min_rows} rows (evaluate.slices.min_rows)"
        return ColumnFairness(name, label, groups, "all rows are in one group" if known < 2 else least)
    strict = 1 - compute_sidak_level(1 - level, len(compared) - 1)
    ratios = compare_groups(compared, count_approved, compute_ratio, strict)
    enough = [group for group in compared if group.rows - group.positives >= settings.min_rows]
    gaps = compare_groups(enough, count_approved_good, compute_difference, strict)
    completed = [
        replace(
            group,
            approval_ratio=ratios.get(group.value, NOT_COMPUTED),
            opportunity_gap=gaps.get(group.value, NOT_COMPUTED),
        )
        for group in groups
    ]
    return ColumnFairness(name, label, completed)


def measure_group(scored: Scored, value: str, label: str, level: float) -> Group:
    """Return the measurements of the n rows of a group, without comparisons."""
    is_positive, is_refused = scored.labels == 1, scored.predicted == 1
    positives, rows = int(is_positive.sum()), len(scored)
    errors = scored.probability - scored.labels
    reach = float(stats.norm.ppf((1 + level) / 2)) * float(errors.std(ddof=1)) / rows**0.5 if rows > 1 else math.nan
    mean = float(errors.mean())
    return Group(
        value,
        label,
        rows,
        positives,
        compute_rate(int((~is_refused).sum()), rows, level),
        compute_rate(int((is_refused & is_positive).sum()), positives, level),
        compute_rate(int((is_refused & ~is_positive).sum()), rows - positives, level),
        Interval(mean, mean - reach, mean + reach),
    )


Count = Callable[[Group], tuple[int, int]]
"""Returns the number of approved rows of a group, and of rows that they are a share of."""


def count_approved(group: Group) -> tuple[int, int]:
    """Return the number of approved rows and of all rows."""
    return round(group.approval_rate.value * group.rows), group.rows


def count_approved_good(group: Group) -> tuple[int, int]:
    """Return the number of approved rows of class 0 and of all rows of class 0."""
    good = group.rows - group.positives
    return round((1 - group.false_positive_rate.value) * good), good


def compare_groups(
    groups: list[Group], count: Count, compare: Callable[[Interval, Interval], Interval], level: float
) -> dict[str, Interval]:
    """Return the comparison of each group with the group of the highest rate, by value; empty below two groups."""
    if len(groups) < 2:
        return {}
    rates = {group.value: compute_rate(*count(group), level) for group in groups}
    best = max(rates, key=lambda value: rates[value].value)
    equal = Interval(*[compare(rates[best], rates[best]).value] * 3)
    return {value: equal if value == best else compare(rate, rates[best]) for value, rate in rates.items()}


def compute_ratio(rate: Interval, best: Interval) -> Interval:
    """Return rate / best with its interval, from independent intervals of both; NaN if the best rate is 0."""
    if best.value == 0:
        return NOT_COMPUTED
    product = rate.value * best.value

    def solve(own: float, other: float, sign: int) -> float:
        root = product**2 - own * other * (2 * rate.value - own) * (2 * best.value - other)
        divisor = other * (2 * best.value - other)
        return (product + sign * math.sqrt(max(root, 0.0))) / divisor if divisor > 0 else math.inf

    return Interval(rate.value / best.value, max(solve(rate.low, best.high, -1), 0.0), solve(rate.high, best.low, 1))


def compute_difference(rate: Interval, best: Interval) -> Interval:
    """Return best - rate with its interval, from independent intervals of both."""
    value = best.value - rate.value
    low = value - math.hypot(best.value - best.low, rate.high - rate.value)
    return Interval(value, low, value + math.hypot(best.high - best.value, rate.value - rate.low))

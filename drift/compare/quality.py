"""Data quality of a window: what is missing, unknown or out of range more often than in the reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from drift.compare.column_tests import more_often
from stepkit.table.columns import Columns

RULES = ("missing", "unknown_codes", "out_of_range")


@dataclass(frozen=True)
class Fault:
    """The share of a column's rows that break a rule, in the reference and now."""

    rule: str
    column: str
    reference: float
    current: float
    p_value: float
    alarm: bool

    @property
    def rise(self) -> float:
        return self.current - self.reference

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def rules_of(name: str, reference: pd.Series, columns: Columns | None) -> Iterator[tuple[str, Any]]:
    """The rules of a column, each with what breaks it: a function from values (n) to n booleans."""
    yield "missing", pd.Series.isna
    told = columns.columns.get(name) if columns else None
    if told is None or reference.dropna().empty:
        return
    if told.values is not None or told.role == "categorical":
        known = values_of(name, reference, columns)
        yield "unknown_codes", lambda values: values.notna() & ~values.isin(known)
    elif pd.api.types.is_numeric_dtype(reference):
        low, high = range_of(name, reference, columns)
        yield "out_of_range", lambda values: (values < low) | (values > high)


def values_of(name: str, reference: pd.Series, columns: Columns | None) -> list[Any]:
    """The known codes of a column: what the data set says, and what the reference holds."""
    told = columns.columns.get(name) if columns else None
    return [*{*((told.values if told else None) or []), *reference.dropna().unique()}]


def range_of(name: str, reference: pd.Series, columns: Columns | None) -> tuple[float, float]:
    """What is allowed where the data set says so, else what the reference holds."""
    told = columns.columns.get(name) if columns else None
    low = float(reference.min()) if told is None or told.min is None else told.min
    high = float(reference.max()) if told is None or told.max is None else told.max
    return low, high


def count_rules(reference: pd.DataFrame, columns: Columns | None) -> int:
    return sum(1 for name in reference for _ in rules_of(str(name), reference[name], columns))


def faults(
    reference: pd.DataFrame, current: pd.DataFrame, columns: Columns | None, p_threshold: float, min_share: float
) -> list[Fault]:
    """Hold every common column of `current` (n rows) to its rules, beside the `reference` (m rows)."""
    return [
        _fault(rule, name, broken(reference[name]), broken(current[name]), p_threshold, min_share)
        for name in map(str, reference)
        if name in current
        for rule, broken in rules_of(name, reference[name], columns)
    ]


def _fault(rule: str, name: str, before: pd.Series, now: pd.Series, p_threshold: float, min_share: float) -> Fault:
    before, now = before.fillna(False), now.fillna(False)  # pandas' nullable numbers: missing is not out of range
    rise = float(now.mean()) - float(before.mean())
    p_value = more_often((int(before.sum()), len(before)), (int(now.sum()), len(now))) if rise > 0 else 1.0
    alarm = rise >= min_share and p_value <= p_threshold
    return Fault(rule, name, float(before.mean()), float(now.mean()), p_value, alarm)

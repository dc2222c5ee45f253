"""Data quality of a window: values that are missing, unknown or out of range more often than in the reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
from scipy import stats

from stepkit.table.columns import Columns

RULES = ("missing", "unknown_codes", "out_of_range")


@dataclass(frozen=True)
class Fault:
    """Share of the rows of a column that break a rule, in the reference and in the window."""

    rule: str
    column: str
    reference: float
    current: float
    p_value: float
    alarm: bool

    @property
    def rise(self) -> float:
        """Increase of the share."""
        return self.current - self.reference


def iter_rules(name: str, reference: pd.Series, columns: Columns | None) -> Iterator[tuple[str, Any]]:
    """Yield the rules of a column, each with its limits: None, the known codes, or the lowest and the highest value."""
    yield "missing", None
    column = columns.columns.get(name) if columns else None
    if column is None or reference.dropna().empty:
        return
    if column.values is not None or column.role == "categorical":
        yield "unknown_codes", [*{*(column.values or []), *reference.dropna().unique()}]
    elif pd.api.types.is_numeric_dtype(reference):
        low = float(reference.min()) if column.min is None else column.min
        high = float(reference.max()) if column.max is None else column.max
        yield "out_of_range", (low, high)


def flag_violations(rule: str, allowed: Any, values: pd.Series) -> pd.Series:
    """Return n booleans: True where a value breaks a rule."""
    if rule == "missing":
        return values.isna()
    if rule == "unknown_codes":
        return values.notna() & ~values.isin(allowed)
    low, high = allowed
    outside: pd.Series = (values < low) | (values > high)
    return outside.fillna(False)  # a missing value of a nullable pandas type is not out of range


def count_rules(reference: pd.DataFrame, columns: Columns | None) -> int:
    """Return the number of rules of all columns."""
    return sum(1 for name in reference for _ in iter_rules(str(name), reference[name], columns))


def check_quality(
    reference: pd.DataFrame, current: pd.DataFrame, columns: Columns | None, p_threshold: float, min_share: float
) -> list[Fault]:
    """Return the result of every rule for every column of `reference` (m rows) and `current` (n rows)."""
    return [
        _check_rule(
            rule, name, flag_violations(rule, allowed, reference[name]), flag_violations(rule, allowed, current[name]),
            p_threshold, min_share,
        )
        for name in map(str, reference)
        for rule, allowed in iter_rules(name, reference[name], columns)
    ]  # fmt: skip


def _check_rule(
    rule: str, name: str, before: pd.Series, after: pd.Series, p_threshold: float, min_share: float
) -> Fault:
    """Test a rise by Fisher's exact test, one-sided: a decrease is not a fault."""
    rise = float(after.mean()) - float(before.mean())
    table = [[int(side.sum()), len(side) - int(side.sum())] for side in (after, before)]
    p_value = float(stats.fisher_exact(table, alternative="greater").pvalue) if rise > 0 else 1.0
    alarm = rise >= min_share and p_value <= p_threshold
    return Fault(rule, name, float(before.mean()), float(after.mean()), p_value, alarm)

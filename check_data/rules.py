"""Rules for the values of a column. Each rule returns a mask of the rows that break it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from stepkit.table.columns import Column, Columns
from stepkit.table.tables import to_plain_text

LARGEST_CODE = 2**24
"""Largest code that the model's float32 inputs keep apart: 100000001 and 100000002 become the same code."""

LARGEST_NUMBER = float(np.finfo(np.float32).max)
SHOWN_VALUES = 12


def mark_wrong_types(values: pd.Series, column: Column) -> pd.Series:
    """Mark text in a numeric column, fractions in a column of whole numbers, and codes above LARGEST_CODE."""
    if column.type == "text":
        return _mark_none(values)
    numbers = pd.to_numeric(values, errors="coerce")
    broken = numbers.isna() & values.notna()
    if column.role == "categorical":
        broken |= numbers.abs() > LARGEST_CODE
    return broken | (numbers % 1 != 0) & numbers.notna() if column.type == "integer" else broken


def mark_unknown_values(values: pd.Series, column: Column) -> pd.Series:
    """Mark values that are not in the column's list of known values, if it has one."""
    if column.values is None:
        return _mark_none(values)
    known_values = to_plain_text(pd.Series(column.values, dtype=object))
    return values.notna() & ~to_plain_text(values).isin(set(known_values))


def mark_out_of_range(values: pd.Series, column: Column) -> pd.Series:
    """Mark numbers outside of the column's min and max, or too large for float32."""
    if column.type == "text":
        return _mark_none(values)
    numbers = pd.to_numeric(values, errors="coerce")
    lowest = -LARGEST_NUMBER if column.min is None else column.min
    highest = LARGEST_NUMBER if column.max is None else column.max
    return (numbers < lowest) | (numbers > highest) | (numbers.abs() > LARGEST_NUMBER)


def mark_too_many_missing(values: pd.Series, column: Column) -> pd.Series:
    """Mark the missing values, if their share is above the column's max_missing."""
    missing = values.isna()
    return missing if missing.mean() > column.max_missing else _mark_none(values)


def _mark_none(values: pd.Series) -> pd.Series:
    return pd.Series(False, index=values.index)


def mark_unknown_classes(values: pd.Series) -> pd.Series:
    """Mark targets that are neither 0 nor 1."""
    return ~to_plain_text(values).isin({"0", "1"})


RULES: dict[str, Callable[[pd.Series, Column], pd.Series]] = {
    "type": mark_wrong_types,
    "known values": mark_unknown_values,
    "range": mark_out_of_range,
    "missing": mark_too_many_missing,
}


def describe_expected(column: Column, rule: str) -> str:
    """Return the values that a rule allows, in words; "" for a rule without a limit."""
    if rule == "type":
        return "whole numbers" if column.type == "integer" else "numbers"
    if rule == "known values" and column.values:
        suffix = ", ..." if len(column.values) > SHOWN_VALUES else ""
        return ", ".join(map(str, column.values[:SHOWN_VALUES])) + suffix
    if rule == "range":
        limits = [f"at least {column.min:g}"] if column.min is not None else []
        return " and ".join(limits + ([f"at most {column.max:g}"] if column.max is not None else []))
    if rule == "missing":
        return f"at most {column.max_missing:.0%} missing" if column.max_missing else "no missing values"
    return ""


def suggest_remedy(column: Column, rule: str, broken: pd.Series) -> str:
    """Return a sentence on how to correct the values that break a rule; "" if the allowed values are enough."""
    sizes = pd.to_numeric(broken, errors="coerce").abs()
    if rule == "type" and column.role == "categorical" and (sizes > LARGEST_CODE).any():
        return f". Codes above {LARGEST_CODE:,} need type: text in the column's description"
    if rule == "range" and (sizes > LARGEST_NUMBER).any():
        return f". The model's largest number is {LARGEST_NUMBER:.1e}: correct the value or remove the row"
    return ""


def find_broken_rows(table: pd.DataFrame, columns: Columns, name: str, rule: str) -> pd.Series:
    """Return the values of column `name` that break `rule`, with their row numbers as index."""
    mask = RULES[rule](table[name], columns.columns[name])
    return table.loc[mask.fillna(False).astype(bool), name]

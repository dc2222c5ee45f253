"""The rules of a column, each a mask of the rows that break it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from stepkit.table.columns import Column, Columns
from stepkit.table.tables import to_plain_text

LARGEST_CODE = 2**24
"""The model takes codes as float32, which holds whole numbers up to here; 100000001 and 100000002 become one code."""

LARGEST_NUMBER = float(np.finfo(np.float32).max)


def mark_wrong_types(values: pd.Series, column: Column) -> pd.Series:
    """True where a value is not of the column's type: text in a number, a fraction in a whole number, a code that the
    model cannot tell from its neighbours."""
    if column.type == "text":
        return _mark_none(values)
    numbers = pd.to_numeric(values, errors="coerce")
    broken = numbers.isna() & values.notna()
    if column.role == "categorical":
        broken |= numbers.abs() > LARGEST_CODE
    return broken | (numbers % 1 != 0) & numbers.notna() if column.type == "integer" else broken


def mark_unknown_values(values: pd.Series, column: Column) -> pd.Series:
    """True where a value is not one of the known ones, in a column that has known values."""
    if column.values is None:
        return _mark_none(values)
    known = to_plain_text(pd.Series(column.values, dtype=object))
    return values.notna() & ~to_plain_text(values).isin(set(known))


def mark_out_of_range(values: pd.Series, column: Column) -> pd.Series:
    """True where a number lies outside of the column's min and max, or of the numbers that a model can take."""
    if column.type == "text":
        return _mark_none(values)
    numbers = pd.to_numeric(values, errors="coerce")
    lowest = -LARGEST_NUMBER if column.min is None else column.min
    highest = LARGEST_NUMBER if column.max is None else column.max
    return (numbers < lowest) | (numbers > highest) | (numbers.abs() > LARGEST_NUMBER)


def mark_too_many_missing(values: pd.Series, column: Column) -> pd.Series:
    """True where a value is missing, if more are missing than the column allows."""
    missing = values.isna()
    return missing if missing.mean() > column.max_missing else _mark_none(values)


def _mark_none(values: pd.Series) -> pd.Series:
    return pd.Series(False, index=values.index)


def mark_unknown_classes(values: pd.Series) -> pd.Series:
    """True where the target is neither 0 nor 1."""
    return ~to_plain_text(values).isin({"0", "1"})


RULES: dict[str, Callable[[pd.Series, Column], pd.Series]] = {
    "type": mark_wrong_types,
    "known values": mark_unknown_values,
    "range": mark_out_of_range,
    "missing": mark_too_many_missing,
}


def suggest_remedy(column: Column, rule: str, broken: pd.Series) -> str:
    """Return the sentence that helps with the values that break a rule, where their message alone does not."""
    sizes = pd.to_numeric(broken, errors="coerce").abs()
    if rule == "type" and column.role == "categorical" and (sizes > LARGEST_CODE).any():
        return f". Describe codes above {LARGEST_CODE:,} as type: text"
    if rule == "range" and (sizes > LARGEST_NUMBER).any():
        return f". No model takes a number beyond {LARGEST_NUMBER:.1e}: correct it or remove the row"
    return ""


def find_broken_rows(table: pd.DataFrame, columns: Columns, name: str, rule: str) -> pd.Series:
    """Return the values of column `name` that break `rule`, with their row numbers as index."""
    mask = RULES[rule](table[name], columns.columns[name])
    return table.loc[mask.fillna(False).astype(bool), name]

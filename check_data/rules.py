"""The rules of a column, each a mask of the rows that break it."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from stepkit.columns import Column, Columns
from stepkit.tables import plain


def wrong_type(values: pd.Series, column: Column) -> pd.Series:
    """True where a value is not of the column's type: text in a number, a fraction in a whole number."""
    if column.type == "text":
        return pd.Series(False, index=values.index)
    numbers = pd.to_numeric(values, errors="coerce")
    broken = numbers.isna() & values.notna()
    return broken | (numbers % 1 != 0) & numbers.notna() if column.type == "integer" else broken


def unknown_value(values: pd.Series, column: Column) -> pd.Series:
    """True where a value is not one of the known ones, in a column that has known values."""
    if column.values is None:
        return pd.Series(False, index=values.index)
    known = plain(pd.Series(column.values, dtype=object))
    return values.notna() & ~plain(values).isin(set(known))


def out_of_range(values: pd.Series, column: Column) -> pd.Series:
    """True where a number lies outside of the column's min and max."""
    numbers = pd.to_numeric(values, errors="coerce")
    below = numbers < column.min if column.min is not None else False
    above = numbers > column.max if column.max is not None else False
    return pd.Series(below | above, index=values.index)


def too_many_missing(values: pd.Series, column: Column) -> pd.Series:
    """True where a value is missing, if more are missing than the column allows."""
    missing = values.isna()
    return missing if missing.mean() > column.max_missing else pd.Series(False, index=values.index)


def unknown_class(values: pd.Series) -> pd.Series:
    """True where the target is neither 0 nor 1."""
    return ~plain(values).isin({"0", "1"})


RULES: dict[str, Callable[[pd.Series, Column], pd.Series]] = {
    "type": wrong_type,
    "known values": unknown_value,
    "range": out_of_range,
    "missing": too_many_missing,
}


def broken_rows(table: pd.DataFrame, columns: Columns, name: str, rule: str) -> pd.Series:
    """Return the values of column `name` that break `rule`, with their row numbers as index."""
    mask = RULES[rule](table[name], columns.columns[name])
    return table.loc[mask.fillna(False).astype(bool), name]

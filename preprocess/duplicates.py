"""Find the rows that preprocess drops, without a second copy of a table of millions of rows."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import numpy as np
import pandas as pd

ROWS_AT_ONCE = 50_000
"""So many numbers stay in a processor's cache."""


def empty_rows(raw: pd.DataFrame, id_column: str | None) -> np.ndarray:
    """Return (n,) whether a row holds nothing but its id."""
    empty = np.ones(len(raw), dtype=bool)
    for _, values in without(raw, id_column):
        if not empty.any():
            break
        empty &= values.isna().to_numpy()
    return empty


def repeated_rows(raw: pd.DataFrame, id_column: str | None) -> np.ndarray:
    """Return (n,) whether a row equals an earlier one but for its id, as pandas' `duplicated` has it.

    Only the few rows whose fingerprint occurs twice are compared: pandas numbers the values of every column, which
    takes the memory of the whole table once more.
    """
    alike = np.flatnonzero(pd.Series(fingerprints(raw, id_column)).duplicated(keep=False))
    few = raw.take(alike).drop(columns=[id_column or ""], errors="ignore")
    repeated = np.zeros(len(raw), dtype=bool)
    repeated[alike] = few.duplicated()
    return repeated


def fingerprints(raw: pd.DataFrame, id_column: str | None) -> np.ndarray:
    """Return (n,) whole numbers of 64 bits, made of each row's numbers but its id: equal rows have equal ones."""
    starts = range(0, max(1, len(raw)), ROWS_AT_ONCE)
    pieces = (without(raw.iloc[first : first + ROWS_AT_ONCE], id_column) for first in starts)
    return np.concatenate([prints_of([values for _, values in piece]) for piece in pieces])


def prints_of(columns: list[pd.Series]) -> np.ndarray:
    prints = np.zeros(len(columns[0]), dtype=np.uint64)
    for values in columns:
        if values.dtype.kind in "iufb":
            # what pandas takes for equal must have equal bits: -0.0 and 0.0 (by + 0.0), and any two gaps
            numbers = values.to_numpy(dtype=np.float64, na_value=np.nan) + 0.0
            numbers[np.isnan(numbers)] = np.nan
            prints ^= numbers.view(np.uint64)
            prints *= np.uint64(0x9E3779B97F4A7C15)
            prints ^= prints >> np.uint64(29)
    return prints


def without(raw: pd.DataFrame, id_column: str | None) -> Iterator[tuple[Hashable, pd.Series]]:
    """Yield the columns but the id, as they are: to drop a column is to copy all others."""
    return (column for column in raw.items() if column[0] != id_column)

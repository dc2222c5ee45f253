"""Find the rows that preprocess drops, without a second copy of a table of millions of rows."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import numpy as np
import pandas as pd
from pandas.util import hash_pandas_object

ROWS_AT_ONCE = 10_000
"""Rows whose numbers are copied at once."""


def mark_empty_rows(raw: pd.DataFrame, id_column: str | None) -> np.ndarray:
    """Return (n,) whether a row holds nothing but its id."""
    empty = np.ones(len(raw), dtype=bool)
    for _, values in iter_columns_without_id(raw, id_column):
        if not empty.any():
            break
        empty &= values.isna().to_numpy()
    return empty


def mark_repeated_rows(raw: pd.DataFrame, id_column: str | None) -> np.ndarray:
    """Return (n,) whether a row equals an earlier one but for its id, as pandas' `duplicated` has it.

    Only the few rows whose fingerprint occurs twice are compared: pandas numbers the values of every column, which
    takes the memory of the whole table once more.
    """
    alike = np.flatnonzero(pd.Series(compute_row_hashes(raw, id_column)).duplicated(keep=False))
    few = raw.take(alike).drop(columns=[id_column or ""], errors="ignore")
    repeated = np.zeros(len(raw), dtype=bool)
    repeated[alike] = few.duplicated()
    return repeated


def compute_row_hashes(raw: pd.DataFrame, id_column: str | None) -> np.ndarray:
    """Return (n,) whole numbers of 64 bits, made of each row's numbers but its id: equal rows have equal ones."""
    names = [name for name, values in iter_columns_without_id(raw, id_column) if values.dtype.kind in "iufb"]
    prints = np.zeros(len(raw), dtype=np.uint64)
    for first in range(0, len(raw) if names else 0, ROWS_AT_ONCE):
        # what pandas takes for equal must have equal bits: -0.0 and 0.0 (by + 0.0), and any two gaps
        numbers = raw.iloc[first : first + ROWS_AT_ONCE][names].astype(float) + 0.0
        prints[first : first + ROWS_AT_ONCE] = hash_pandas_object(numbers.mask(numbers.isna()), index=False)
    return prints


def iter_columns_without_id(raw: pd.DataFrame, id_column: str | None) -> Iterator[tuple[Hashable, pd.Series]]:
    """Yield the columns but the id, as they are: to drop a column is to copy all others."""
    return (column for column in raw.items() if column[0] != id_column)

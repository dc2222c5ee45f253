"""Rows that preprocess drops, found without a second copy of a table of millions of rows."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import numpy as np
import pandas as pd
from pandas.util import hash_pandas_object

ROWS_AT_ONCE = 10_000
"""Number of rows that are hashed at a time, which limits the memory of their copies."""


def mark_empty_rows(raw: pd.DataFrame, id_column: str | None) -> np.ndarray:
    """Return an (n,) mask of the rows that are empty except for their id."""
    empty = np.ones(len(raw), dtype=bool)
    for _, values in iter_columns_without_id(raw, id_column):
        if not empty.any():
            break
        empty &= values.isna().to_numpy()
    return empty


def mark_repeated_rows(raw: pd.DataFrame, id_column: str | None) -> np.ndarray:
    """Return an (n,) mask of the rows that equal an earlier row except for their id, like `DataFrame.duplicated`.

    Only rows with the same hash are compared: pandas would encode the values of every column, which takes as much
    memory as the whole table.
    """
    candidates = np.flatnonzero(pd.Series(compute_row_hashes(raw, id_column)).duplicated(keep=False))
    rows = raw.take(candidates).drop(columns=[id_column or ""], errors="ignore")
    repeated = np.zeros(len(raw), dtype=bool)
    repeated[candidates] = rows.duplicated()
    return repeated


def compute_row_hashes(raw: pd.DataFrame, id_column: str | None) -> np.ndarray:
    """Return (n,) 64-bit hashes of the numbers of each row without its id: equal rows have equal hashes."""
    names = [name for name, values in iter_columns_without_id(raw, id_column) if values.dtype.kind in "iufb"]
    hashes = np.zeros(len(raw), dtype=np.uint64)
    for first in range(0, len(raw) if names else 0, ROWS_AT_ONCE):
        # Values that are equal in pandas need equal bits: -0.0 and 0.0 (hence + 0.0), and all missing values.
        numbers = raw.iloc[first : first + ROWS_AT_ONCE][names].astype(float) + 0.0
        hashes[first : first + ROWS_AT_ONCE] = hash_pandas_object(numbers.mask(numbers.isna()), index=False)
    return hashes


def iter_columns_without_id(raw: pd.DataFrame, id_column: str | None) -> Iterator[tuple[Hashable, pd.Series]]:
    """Yield the columns except the id without copying them, as `DataFrame.drop` would."""
    return (column for column in raw.items() if column[0] != id_column)

"""Split a table in two with equal shares of a column's values; used for the test and the validation split."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from stepkit.errors import TableUnfit


def split_table(table: pd.DataFrame, size: float, stratify: str, random_seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (the larger part, the part of share `size`), both with the rows shuffled by `random_seed`.

    Args:
        table: n rows.
        size: share of the second part, between 0 and 1.
        stratify: column whose values keep their shares in both parts; empty for a plain random split.

    Raises:
        TableUnfit: no such column, or too few rows of one of its values for both parts.
    """
    if len(table) < 2:
        raise TableUnfit(f"{len(table)} rows are too few to split into {1 - size:g} and {size:g}. Get more rows.")
    by, values = (
        _find_strata(table, size, stratify) if stratify else (np.zeros(len(table), dtype=np.int8), pd.Index([""]))
    )
    first, second, first_by, second_by = train_test_split(
        table, by, test_size=size, stratify=by if stratify else None, random_state=random_seed
    )
    # equal shares round down to no row at all of a rare value
    lost = np.setxor1d(first_by, second_by)
    if stratify and len(lost):
        raise TableUnfit(
            f"{len(by):,} rows are too few to split by '{stratify}' into {len(first):,} and {len(second):,}: no row of "
            f"{', '.join(map(str, values[lost]))} would be on one side. Get more rows, or stratify by nothing."
        )
    return first, second


def _find_strata(table: pd.DataFrame, size: float, stratify: str) -> tuple[np.ndarray, pd.Index]:
    """Return for each of n rows the place of its value among the sorted values, and these; a gap is a value too."""
    if stratify not in table.columns:
        raise TableUnfit(f"cannot stratify by '{stratify}': the columns are {', '.join(map(str, table.columns))}.")
    counts = table[stratify].value_counts(dropna=False)
    smallest, rows = counts.index[-1], int(counts.iloc[-1])
    parts = (int(len(table) * size), int(len(table) * (1 - size)))
    if rows < 2 or min(parts) < len(counts):
        raise TableUnfit(
            f"{len(table):,} rows are too few to split by '{stratify}' into {1 - size:g} and {size:g}: value "
            f"{smallest} has {rows} row{'s'[: rows != 1]}, each value needs one on both sides. Get more rows, or "
            "stratify by nothing."
        )
    places, values = pd.factorize(table[stratify], sort=True, use_na_sentinel=False)
    return places, pd.Index(values)

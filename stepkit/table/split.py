"""Split of a table into two parts with equal shares of a column's values, for the test and the validation split."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from stepkit.errors import TableUnfit


def split_table(table: pd.DataFrame, size: float, stratify: str, random_seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the remaining rows and a part with a share of `size`, both shuffled.

    Args:
        table: n rows.
        size: share of the second part, between 0 and 1.
        stratify: column whose values keep their shares in both parts; empty for a random split.
        random_seed: seed of the shuffle.

    Raises:
        TableUnfit: no such column, or too few rows of one of its values for both parts.
    """
    if len(table) < 2:
        raise TableUnfit(f"too few rows to split into {1 - size:g} and {size:g} (found {len(table)}). Add rows.")
    by, values = (
        _find_strata(table, size, stratify) if stratify else (np.zeros(len(table), dtype=np.int8), pd.Index([""]))
    )
    first, second, first_by, second_by = train_test_split(
        table, by, test_size=size, stratify=by if stratify else None, random_state=random_seed
    )
    # A rare value may be rounded down to zero rows in one part.
    one_sided = np.setxor1d(first_by, second_by)
    if stratify and len(one_sided):
        raise TableUnfit(
            f"{len(by):,} rows are too few to split by '{stratify}' into {len(first):,} and {len(second):,}: the value "
            f"{', '.join(map(str, values[one_sided]))} would be missing in one part. Add rows, or do not "
            "stratify (data.stratify=null)."
        )
    return first, second


def _find_strata(table: pd.DataFrame, size: float, stratify: str) -> tuple[np.ndarray, pd.Index]:
    """Return (n,) the index of each row's value among the sorted distinct values, and these; NaN is a value too."""
    if stratify not in table.columns:
        raise TableUnfit(
            f"cannot stratify by '{stratify}': no such column. Columns: {', '.join(map(str, table.columns))}."
        )
    counts = table[stratify].value_counts(dropna=False)
    smallest, rows = counts.index[-1], int(counts.iloc[-1])
    parts = (int(len(table) * size), int(len(table) * (1 - size)))
    if rows < 2 or min(parts) < len(counts):
        raise TableUnfit(
            f"{len(table):,} rows are too few to split by '{stratify}' into {1 - size:g} and {size:g}: value "
            f"{smallest} has {rows} row{'s'[: rows != 1]}, each value needs one in both parts. Add rows, or "
            "do not stratify (data.stratify=null)."
        )
    places, values = pd.factorize(table[stratify], sort=True, use_na_sentinel=False)
    return places, pd.Index(values)

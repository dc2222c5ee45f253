"""The target of a table: the class of each row, and the rows that have none."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stepkit.errors import TableUnfit
from stepkit.table.columns import Columns
from stepkit.table.tables import to_plain_text

SHOWN_ROWS = 5
REMEDY = "Fill in their labels or remove these rows from the table"


def to_classes(values: pd.Series, columns: Columns) -> pd.Series:
    """Return n values of the source's target as 0 and 1 (Int64); missing where a value is neither class."""
    texts = to_plain_text(values)
    numbers = {str(value): number for value, number in columns.classes.items()}
    if pd.api.types.infer_dtype(values, skipna=True) == "boolean":
        # a table's own true and True are one value in memory
        texts, numbers = texts.str.lower(), {text.lower(): number for text, number in numbers.items()}
    return texts.map(numbers).astype("Int64")


def to_known_labels(values: pd.Series, columns: Columns) -> np.ndarray:
    """Return n values of the target, before or after preprocess, as (n,) of 0, 1 and NaN, where there is no label."""
    before, after = to_classes(values, columns), to_plain_text(values).map({"0": 0, "1": 1}).astype("Int64")
    is_after = values.name == columns.target and after.count() >= before.count()
    labels: np.ndarray = (after if is_after else before).to_numpy(dtype=float, na_value=np.nan)
    return labels


def format_rows(rows: pd.Index) -> str:
    """Return the numbers of the first of n rows, in words."""
    more = f" and {len(rows) - SHOWN_ROWS:,} more" if len(rows) > SHOWN_ROWS else ""
    return f"row{'s'[: len(rows) != 1]} {', '.join(map(str, rows[:SHOWN_ROWS]))}{more}"


def verify_labels(table: pd.DataFrame, target: str) -> None:
    """Raise TableUnfit if a row has no label."""
    missing = table[target].isna()
    if missing.any():
        raise TableUnfit(
            f"the target '{target}': {missing.sum():,} of {len(table):,} rows have no label: "
            f"{format_rows(table.index[missing])}, counted from 0. {REMEDY}."
        )


def get_labels(table: pd.DataFrame, target: str) -> np.ndarray:
    """Return the target as (n,) of 0 and 1; raise TableUnfit if a row has no label or another, or all have the same."""
    verify_labels(table, target)
    texts = to_plain_text(table[target])
    values = sorted(texts.unique())
    if values != ["0", "1"]:
        raise TableUnfit(f"the target '{target}' must hold both 0 and 1, and holds: {', '.join(values[:10])}.")
    labels: np.ndarray = texts.to_numpy(dtype=int)
    return labels

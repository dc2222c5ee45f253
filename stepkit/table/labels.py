"""Target of a table: the label of each row, and rows without a label."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stepkit.errors import TableUnfit
from stepkit.table.columns import Columns
from stepkit.table.tables import to_plain_text

SHOWN_ROWS = 5
REMEDY = "Fill in their labels or remove these rows from the table"
LIST_CLASSES = (
    "If the target has more than two values, write lists in data/*.yaml, such as positive: [Charged Off, Default] and "
    "negative: [Fully Paid]; rows of all other values are then left out"
)


def to_classes(values: pd.Series, columns: Columns) -> pd.Series:
    """Return n values of the source's target as 0 and 1 (Int64), missing for values of neither class."""
    texts = to_plain_text(values)
    numbers = {str(value): number for value, number in columns.classes.items()}
    if pd.api.types.infer_dtype(values, skipna=True) == "boolean":
        # True and True are the same value once pandas has read them as booleans.
        texts, numbers = texts.str.lower(), {text.lower(): number for text, number in numbers.items()}
    return texts.map(numbers).astype("Int64")


def to_known_labels(values: pd.Series, columns: Columns) -> np.ndarray:
    """Return n values of the target, before or after preprocess, as (n,) of 0, 1 and NaN for a missing label."""
    before, after = to_classes(values, columns), to_plain_text(values).map({"0": 0, "1": 1}).astype("Int64")
    is_after = values.name == columns.target and after.count() >= before.count()
    labels: np.ndarray = (after if is_after else before).to_numpy(dtype=float, na_value=np.nan)
    return labels


def format_rows(rows: pd.Index) -> str:
    """Return the numbers of the first rows as text, such as "rows 3, 7 and 12 more"."""
    more = f" and {len(rows) - SHOWN_ROWS:,} more" if len(rows) > SHOWN_ROWS else ""
    return f"row{'s'[: len(rows) != 1]} {', '.join(map(str, rows[:SHOWN_ROWS]))}{more}"


def format_values(values: pd.Series, most: int = 5) -> str:
    """Return the most frequent values with their counts, such as "9 (2x), missing (1x)"."""
    counts = to_plain_text(values).fillna("missing").value_counts()
    suffix = f" and {len(counts) - most} other values" if len(counts) > most else ""
    texts = {value: value if value == value.strip() else repr(value) for value in map(str, counts.head(most).index)}
    return ", ".join(f"{text} ({counts[value]}x)" for value, text in texts.items()) + suffix


def verify_labels(table: pd.DataFrame, target: str) -> None:
    """Raise TableUnfit, with the row numbers, if a label is missing."""
    missing = table[target].isna()
    if missing.any():
        raise TableUnfit(
            f"the target '{target}': {missing.sum():,} of {len(table):,} rows have no label: "
            f"{format_rows(table.index[missing])}, counted from 0. {REMEDY}."
        )


def get_labels(table: pd.DataFrame, target: str) -> np.ndarray:
    """Return the target as (n,) of 0 and 1; raise TableUnfit unless each row has a label and both classes occur."""
    verify_labels(table, target)
    texts = to_plain_text(table[target])
    values = sorted(texts.unique())
    if values != ["0", "1"]:
        raise TableUnfit(f"the target '{target}' must contain both 0 and 1 (found {', '.join(values[:10])}).")
    labels: np.ndarray = texts.to_numpy(dtype=int)
    return labels

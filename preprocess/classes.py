"""Rows whose target belongs to one of the two classes, if data/*.yaml lists the values of the classes."""

from __future__ import annotations

import difflib
import logging

import pandas as pd

from stepkit.errors import TableUnfit
from stepkit.table.columns import Columns
from stepkit.table.labels import format_values, to_classes
from stepkit.table.tables import to_plain_text

log = logging.getLogger("step")


def select_classes(raw: pd.DataFrame, columns: Columns) -> tuple[pd.DataFrame, pd.Series]:
    """Return the rows with a listed value of the target, and the target of the other rows, such as unfinished loans.

    Rows without a label stay, so that check_data reports them. All rows stay if the classes are single values.

    Raises:
        TableUnfit: no row has a value that is listed for a class.
    """
    target = raw[columns.source_target]
    if not columns.lists_classes:
        return raw, target.iloc[:0]
    verify_listed_values(target, columns)
    is_other = to_classes(target, columns).isna() & target.notna()
    return raw[~is_other], target[is_other]


def verify_listed_values(target: pd.Series, columns: Columns) -> None:
    """Log a warning for each listed value that does not occur; raise TableUnfit if a class has no value that does."""
    values = [str(value) for value in to_plain_text(target).dropna().unique()]
    # to_classes reads booleans in any spelling.
    fold = str.lower if pd.api.types.infer_dtype(target, skipna=True) == "boolean" else str
    spellings = {fold(value) for value in values}
    for key, number in (("negative", 0), ("positive", 1)):
        listed = [str(value) for value, of_class in columns.classes.items() if of_class == number]
        absent = [value for value in listed if fold(value) not in spellings]
        if not absent:
            continue
        close = [name for value in absent for name in difflib.get_close_matches(value, values, n=1)]
        hint = f" Did you mean {', '.join(dict.fromkeys(close))}?" if close else ""
        problem = (
            f"{key}: column '{columns.source_target}' does not have the value{'s'[: len(absent) != 1]} "
            f"{', '.join(absent)} (found {format_values(target)}).{hint}"
        )
        if len(absent) == len(listed):
            raise TableUnfit(f"{problem} Correct the list in data/*.yaml.")
        log.warning(problem)


def format_other_classes(others: pd.Series) -> str:
    """Return the number of rows that are left out and their values, such as "12 rows: Current (12x)", or ""."""
    return f"{len(others):,} row{'s'[: len(others) != 1]}: {format_values(others)}" if len(others) else ""

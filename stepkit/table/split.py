"""Split of a table into two parts, for the test and the validation split: with equal shares of a column, or by time."""

from __future__ import annotations

import argparse
import logging

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from stepkit.errors import BadParameter, TableUnfit
from stepkit.table.columns import Columns
from stepkit.table.dates import TIME, describe_parts, format_dates, parse_dates
from stepkit.table.labels import format_rows

log = logging.getLogger("step")

SHARE_TOLERANCE = 0.05
"""Difference from the requested share of the newest part beyond which a warning is logged."""


def split_rows(
    table: pd.DataFrame, size: float, columns: Columns, args: argparse.Namespace
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the remaining rows and a part with a share of `size`; `args` has the step's flags for the split.

    Args:
        table: n rows.
        size: share of the second part, between 0 and 1.
        columns: description of the table, with its time_column for a split by time.
        args: flags `split`, `stratify` and `random_seed`.

    Raises:
        TableUnfit: the table cannot be split in this way.
        BadParameter: a split by time without a time_column.
    """
    if args.split != TIME:
        return split_table(table, size, args.stratify, args.random_seed)
    if not columns.time_column:
        raise BadParameter(
            "split: time needs the key time_column in data/*.yaml, the column with the date of each row (found none)."
        )
    if args.stratify:
        log.info("stratify: not applied, because the split is by time")
    return split_table_by_time(table, size, columns, args.random_seed)


def split_table_by_time(
    table: pd.DataFrame, size: float, columns: Columns, random_seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the older rows and the newest rows, both shuffled; rows of one time stay together.

    The newest part begins at the time that brings it closest to a share of `size`. Rows without a date belong to the
    older part.

    Args:
        table: n rows with the time column and the target (0 and 1).
        size: share of the newest part, between 0 and 1.
        columns: description of the table, with its time_column.
        random_seed: seed of the shuffle.

    Raises:
        TableUnfit: rows without a date (unless `undated` is train), only one date, or a part with a single class.
    """
    dates = parse_dates(table[str(columns.time_column)])
    _verify_dated(dates, columns)
    times, rows_at = np.unique(dates.dropna().to_numpy(), return_counts=True)
    newer = rows_at[::-1].cumsum()[::-1]  # rows at each time or later
    is_possible = newer < len(table)  # else the older part would be empty
    if not is_possible.any():
        raise TableUnfit(
            f"split by time: all {len(table):,} rows have the same date in '{columns.time_column}' (found "
            f"{', '.join(format_dates(pd.Series(times)))}). Use data.split=random."
        )
    distance = np.where(is_possible, np.abs(newer - size * len(table)), np.inf)
    is_newest = (dates >= times[distance.argmin()]).to_numpy()
    share = is_newest.mean()
    if abs(share - size) > SHARE_TOLERANCE:
        reason = "rows of one date stay together"
        log.warning(
            "split by time: the newest part has %.1f%% of the rows, not %.1f%%: %s", 100 * share, 100 * size, reason
        )
    random = np.random.default_rng(random_seed)
    parts = [table.iloc[random.permutation(np.flatnonzero(mask))] for mask in (~is_newest, is_newest)]
    for part, name in zip(parts, ("older", "newest"), strict=True):
        _verify_both_classes(part, name, columns)
    return parts[0], parts[1]


def _verify_dated(dates: pd.Series, columns: Columns) -> None:
    """Raise TableUnfit if a row has no date, unless such rows belong to the older part."""
    undated = dates.isna()
    if undated.all() or (undated.any() and columns.undated is None):
        raise TableUnfit(
            f"time_column '{columns.time_column}': {undated.sum():,} of {len(dates):,} rows have no date: "
            f"{format_rows(dates.index[undated])}, counted from 0. Fill in the dates, or set undated in data/*.yaml: "
            "train (use them for training) or drop."
        )


def _verify_both_classes(part: pd.DataFrame, name: str, columns: Columns) -> None:
    classes = pd.to_numeric(part[columns.target], errors="coerce").unique()
    if len(classes) < 2:
        ((_, dates),) = describe_parts({name: part}, columns).items()
        raise TableUnfit(
            f"split by time: the {name} part, {len(part):,} rows from {dates['first'] or 'an unknown date'} to "
            f"{dates['last'] or 'an unknown date'}, has only class {classes[0]:g}. Change data.test_size or "
            "data.val_size, leave out rows whose outcome is not known yet, or use data.split=random."
        )


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

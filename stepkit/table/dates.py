"""Dates of rows: the texts and numbers of a date column as times, and periods of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from stepkit.errors import TableUnfit
from stepkit.table.columns import Columns
from stepkit.table.labels import format_rows, format_values
from stepkit.table.tables import to_plain_text

TIME = "time"
"""Value of data.split and of the flag `split`; the other value is "random"."""

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH_NAME = (
    r"(?P<name>jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?|oct(ober)?|"
    r"nov(ember)?|dec(ember)?)\.?"
)
_CLOCK = r"([T ](?P<clock>\d{2}:\d{2}(:\d{2}([.,]\d{1,9})?)?) ?(?P<zone>Z|UTC|[+-]\d{2}(:?\d{2})?)?)?"
FORMS = [
    re.compile(form, re.IGNORECASE)
    for form in (
        r"(?P<year>\d{4})(-(?P<month>\d{2})(-(?P<day>\d{2})" + _CLOCK + r")?)?",  # 2015, 2015-12, 2015-12-31 08:00Z
        r"(?P<year>\d{4})[/.](?P<month>\d{1,2})([/.](?P<day>\d{1,2}))?" + _CLOCK,  # 2015/12/31
        r"(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})?",  # 201512, 20151231
        _MONTH_NAME + r"[- /,]+(?P<year>\d{4})",  # Dec-2015
        r"(?P<day>\d{1,2})[- /.]*" + _MONTH_NAME + r"[- /,]*(?P<year>\d{4})",  # 31-Dec-2015
        _MONTH_NAME + r" (?P<day>\d{1,2}),? (?P<year>\d{4})",  # Dec 31, 2015
    )
]
"""Forms in which a date has one meaning. The names of months are English."""

AMBIGUOUS = re.compile(r"\d{1,2}([-/.])\d{1,2}\1(\d{4}|\d{2})\b.*|[A-Za-z]{3,9}[- ]\d{2}|\d{2}[- ][A-Za-z]{3,9}")
"""Dates such as 03/04/2015 and Dec-15: the order of day and month, or day and year, is unknown."""

YEARS = range(1900, 2200)
"""Years of real dates; 9999-12-31 and 0001-01-01 stand for "unknown" in many databases."""

FIRST_VALUES = 100
"""Number of values that decide first if a column can be dates."""

EXPECTED = "expected ISO dates such as 2015-12-31, or 201512, 20151231, Dec-2015"


def parse_dates(values: pd.Series) -> pd.Series:
    """Return n dates as datetime64[us] without a zone, missing where the value is missing.

    A timestamp with a zone keeps its local time: all rows have the same zone, so their order is that of the instants.

    Raises:
        TableUnfit: values that are not dates or have an ambiguous order of day and month, or several zones; the message
            has their number and the first rows.
    """
    texts = _apply_to_distinct(values, lambda distinct: to_plain_text(distinct).str.strip().replace("", pd.NA))
    places, distinct = pd.factorize(texts)
    parts = [_match(str(text)) for text in distinct]
    dates = pd.to_datetime(
        pd.Series([_to_iso(part) for part in parts], dtype=object), format="ISO8601", errors="coerce"
    )
    dates = dates.astype("datetime64[us]").reset_index(drop=True)
    unclear = pd.Series(distinct[dates.isna().to_numpy()])
    if len(unclear):
        raise TableUnfit(_explain_unclear(texts, unclear))
    zones = pd.Series([part.get("zone") or "no zone" for part in parts], dtype=object)
    if zones.nunique() > 1:
        raise TableUnfit(_explain_zones(texts, zones, places))
    missing = pd.Series([pd.NaT], dtype="datetime64[us]")
    # Place -1 is a missing value, and the last one of the extended dates.
    return pd.Series(pd.concat([dates, missing]).array[places], index=values.index, name=values.name)


def _match(text: str) -> dict[str, str]:
    """Return the parts of a date: year, month, day, clock, zone; an empty dict for another text."""
    for form in FORMS:
        if match := form.fullmatch(text):
            parts = {key: part for key, part in match.groupdict().items() if part}
            if "zone" in parts:
                parts["zone"] = _format_zone(parts["zone"])
            return parts
    return {}


def _format_zone(zone: str) -> str:
    """Return the offset of a zone in one spelling: Z, UTC, +00 and -00:00 are +00:00."""
    if zone.upper() in ("Z", "UTC"):
        return "+00:00"
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return f"{zone[0] if digits != '0000' else '+'}{digits[:2]}:{digits[2:]}"


def _to_iso(parts: dict[str, str]) -> str | None:
    if not parts or int(parts["year"]) not in YEARS:
        return None
    month = str(MONTHS.index(parts["name"][:3].lower()) + 1) if "name" in parts else parts.get("month", "1")
    clock = f"T{parts['clock'].replace(',', '.')}" if "clock" in parts else ""
    return f"{parts['year']}-{month.zfill(2)}-{parts.get('day', '1').zfill(2)}{clock}"


def _explain_unclear(texts: pd.Series, unclear: pd.Series) -> str:
    """Return the message about values that are not dates, or not clear ones."""
    is_unclear = texts.isin(set(unclear))
    broken = texts[is_unclear]
    ambiguous = broken.map(lambda text: AMBIGUOUS.fullmatch(text) is not None).astype(bool)
    problem = "are not dates"
    if ambiguous.any():
        broken, problem = broken[ambiguous], "have an ambiguous order of day, month and year"
    return (
        f"time_column '{texts.name}': {len(broken):,} of {len(texts):,} rows {problem}: {format_values(broken)}; "
        f"{format_rows(broken.index)}, counted from 0 ({EXPECTED}). Convert the column in the table, or name another "
        "time_column in data/*.yaml."
    )


def _explain_zones(texts: pd.Series, zones: pd.Series, places: np.ndarray) -> str:
    """Return the message about dates with several zones."""
    by_row = zones.reindex(places)  # NaN for a missing date
    by_row.index = texts.index
    usual = by_row.value_counts().index[0]
    others = by_row[by_row.notna() & (by_row != usual)]
    return (
        f"time_column '{texts.name}': several zones: {format_values(by_row.dropna())}; {format_rows(others.index)}, "
        "counted from 0, differ from the other rows (expected one zone). Convert the column to one zone, such as UTC."
    )


def format_dates(dates: pd.Series) -> pd.Series:
    """Return n dates as ISO texts, without the time of day if it is midnight in every row."""
    known = dates.dropna()
    form = "%Y-%m-%d" if (known == known.dt.normalize()).all() else "%Y-%m-%dT%H:%M:%S"
    if (known.dt.microsecond != 0).any():
        form += ".%f"
    return _apply_to_distinct(dates, lambda distinct: distinct.dt.strftime(form).astype("string"))


def _apply_to_distinct(values: pd.Series, convert: Callable[[pd.Series], pd.Series]) -> pd.Series:
    """Return n converted values, missing where the value is missing; a column of dates has few distinct values."""
    places, distinct = pd.factorize(values)
    converted = convert(pd.Series(distinct))
    return pd.Series(converted.array.take(places, allow_fill=True), index=values.index, name=values.name)


def is_date_column(values: pd.Series) -> bool:
    """Return True for a column of at least two different dates; whole years do not count, they may be any number."""
    known = values.dropna()
    # Most columns are not dates, which their first values show.
    return _are_dates(known.head(FIRST_VALUES)) and _are_dates(known) and to_plain_text(known).nunique() > 1


def _are_dates(values: pd.Series) -> bool:
    distinct = pd.Series(to_plain_text(values).unique(), dtype="string", name=values.name)
    if distinct.empty or distinct.str.fullmatch(r"\d{1,4}").any():
        return False
    try:
        parse_dates(distinct)
    except TableUnfit:
        return False
    return True


def describe_parts(parts: dict[str, pd.DataFrame], columns: Columns) -> dict[str, dict[str, Any]]:
    """Return rows, rows without a date (undated), first and last date (ISO, or None) of each part of a table."""
    described = {}
    for name, part in parts.items():
        dates = parse_dates(part[str(columns.time_column)])
        ends = pd.Series([dates.min(), dates.max()], dtype="datetime64[us]")
        first, last = (None, None) if dates.isna().all() else format_dates(ends)
        described[name] = {"rows": len(part), "undated": int(dates.isna().sum()), "first": first, "last": last}
    return described

"""Numbers, names and times as a report shows them."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from stepkit.model.metric_table import format_metric

NO_BREAK = "\N{NO-BREAK SPACE}"


def format_difference(value: float | None) -> str:
    return format_metric(value, sign="+")


def format_interval(low: float | None, high: float | None) -> str:
    """ "0.7561 to 0.7790", or "" where there is none."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"{format_metric(low)} to {format_metric(high)}"


def format_count(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:,.0f}"


def format_seconds(value: float | None) -> str:
    if value is None:
        return ""
    if value < 120:
        return f"{value:.1f}{NO_BREAK}s"
    return f"{value // 60:.0f} min {value % 60:.0f} s"


def format_time(milliseconds: int | None) -> str:
    """A time as MLflow keeps it (ms since 1970), in UTC."""
    if not milliseconds:
        return ""
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def shorten(text: str, most: int) -> str:
    """At most so many characters, and a word about what is left out."""
    return text if len(text) <= most else f"{text[:most].rstrip()} ... ({len(text) - most:,} more characters)"


def pluralize(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

"""Text for numbers, intervals, durations and times."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from stepkit.model.metric_table import format_metric

NO_BREAK = "\N{NO-BREAK SPACE}"


def format_difference(value: float | None) -> str:
    """Return a metric with its sign."""
    return format_metric(value, sign="+")


def format_interval(low: float | None, high: float | None) -> str:
    """Return "0.7561 to 0.7790", or "" without an interval."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"{format_metric(low)} to {format_metric(high)}"


def format_count(value: float | None) -> str:
    """Return a whole number with thousands separators, or ""."""
    return "" if value is None or not math.isfinite(value) else f"{value:,.0f}"


def format_percent(value: float | None) -> str:
    """Return a share (0 to 1) as "22.1%", or ""."""
    return "" if value is None or not math.isfinite(value) else f"{value:.1%}"


def format_seconds(value: float | None) -> str:
    """Return a duration, or "" if it is unknown."""
    if value is None:
        return ""
    if value < 120:
        return f"{value:.1f}{NO_BREAK}s"
    return f"{value // 60:.0f}{NO_BREAK}min {value % 60:.0f}{NO_BREAK}s"


def format_time(milliseconds: int | None) -> str:
    """Return a time of MLflow (ms since 1970) in UTC, or ""."""
    if not milliseconds:
        return ""
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def shorten(text: str, most: int) -> str:
    """Return at most `most` characters, and the number of characters left out."""
    return text if len(text) <= most else f"{text[:most].rstrip()} ... ({len(text) - most:,} more characters)"

"""Window of the prediction log, named by an address: log:?from=TIME&to=TIME&rows=N&version=V."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl

from stepkit.errors import BadParameter

LOG = "log:"
PARAMETERS = ("from", "to", "rows", "version")
MAX_ROWS = 2**63 - 1
"""The largest limit that SQLite and PostgreSQL accept."""

EXAMPLES = "Examples: log:?rows=2000, log:?from=2026-11-01T00:00Z&to=2026-11-02T00:00Z."


@dataclass(frozen=True)
class LogWindow:
    """Window of the prediction log: a span of time or the newest rows; times in UTC."""

    start: datetime | None = None
    end: datetime | None = None
    rows: int | None = None
    version: str | None = None
    """A model version, or "any"; None: the monitored version."""


def parse_window(url: str) -> LogWindow:
    """Parse `log:?from=TIME&to=TIME&rows=N&version=V`.

    Raises:
        BadParameter: a part is unknown or invalid, the span is reversed, or neither `from` nor `rows` is set.
    """
    parts = dict(parse_qsl(url.removeprefix(LOG).lstrip("?").replace("+", "%2B"), keep_blank_values=True))
    if unknown := set(parts) - {*PARAMETERS}:
        raise BadParameter(f"'{url}': unknown part '{min(unknown)}' (expected {', '.join(PARAMETERS)}). {EXAMPLES}")
    start, end = (parse_time(parts[name], url) if name in parts else None for name in ("from", "to"))
    rows = parse_row_count(parts["rows"], url) if "rows" in parts else None
    if start and end and not start < end:
        raise BadParameter(f"'{url}': to ({end}) is not after from ({start}). {EXAMPLES}")
    if start is None and rows is None:
        raise BadParameter(f"'{url}': neither from nor rows is set. {EXAMPLES}")
    return LogWindow(start, end, rows, parts.get("version"))


def parse_time(text: str, url: str) -> datetime:
    """Return an ISO 8601 time in UTC; a time without a zone is in UTC.

    Raises:
        BadParameter: the text is not such a time; the message names `url`.
    """
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError) as error:  # OverflowError: the year 1, east of Greenwich, in UTC
        raise BadParameter(f"'{url}': '{text}' is not an ISO 8601 time. {EXAMPLES}") from error


def parse_row_count(text: str, url: str) -> int:
    """Return a number of rows, at most MAX_ROWS.

    Raises:
        BadParameter: the text is not a whole number of at least 1; the message names `url`.
    """
    digits = text.lstrip("0")
    if not (text.isascii() and text.isdecimal() and digits):
        raise BadParameter(f"'{url}': rows='{text}' is not a whole number of at least 1. {EXAMPLES}")
    return int(digits) if len(digits) < len(str(MAX_ROWS)) else MAX_ROWS

"""Parsing of log:?... windows."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from prediction_log.window import LogWindow, parse_window
from stepkit.errors import BadParameter


def at_hour(number: int) -> datetime:
    return datetime(2026, 11, 1, number, tzinfo=UTC)


@pytest.mark.parametrize(
    ("address", "window"),
    [
        ("log:?rows=2000", LogWindow(rows=2000)),
        # A larger number than a database can count means all rows.
        (f"log:?rows={'9' * 5000}", LogWindow(rows=2**63 - 1)),
        (f"log:?rows={'0' * 30}{'9' * 19}", LogWindow(rows=2**63 - 1)),
        (
            "log:?from=2026-11-01T01:00+01:00&to=2026-11-01T02:00Z&version=any",
            LogWindow(at_hour(0), at_hour(2), version="any"),
        ),
        ("log:?from=2026-11-01", LogWindow(at_hour(0))),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_window_is_parsed(address: str, window: LogWindow) -> None:
    assert parse_window(address) == window


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("log:", "neither from nor rows is set"),
        ("log:?to=2026-11-01", "neither from nor rows is set"),
        ("log:?row=5", "unknown part 'row'"),
        ("log:?rows=-1", "not a whole number"),
        ("log:?from=yesterday", "not an ISO 8601 time"),
        ("log:?from=0001-01-01T00:00%2B14:00", "not an ISO 8601 time"),
        ("log:?rows=0", "not a whole number"),
        ("log:?rows=1e5", "not a whole number"),
        ("log:?from=2026-11-02&to=2026-11-01", "is not after from"),
    ],
)
def test_an_invalid_window_is_rejected(address: str, message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        parse_window(address)

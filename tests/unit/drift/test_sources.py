"""Addresses of a window say what they mean, or are refused with an example."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from drift.compare.sources import LogWindow, parse_window
from stepkit.errors import BadParameter


def hour(number: int) -> datetime:
    return datetime(2026, 11, 1, number, tzinfo=UTC)


@pytest.mark.parametrize(
    ("address", "window"),
    [
        ("log:?rows=2000", LogWindow(rows=2000)),
        # more than a database can count means all of them
        (f"log:?rows={'9' * 5000}", LogWindow(rows=2**63 - 1)),
        (f"log:?rows={'0' * 30}{'9' * 19}", LogWindow(rows=2**63 - 1)),
        (
            "log:?from=2026-11-01T01:00+01:00&to=2026-11-01T02:00Z&version=any",
            LogWindow(hour(0), hour(2), version="any"),
        ),
        ("log:?from=2026-11-01", LogWindow(hour(0))),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_address_of_the_log_is_a_window(address: str, window: LogWindow) -> None:
    assert parse_window(address) == window


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("log:", "names neither a time to begin"),
        ("log:?to=2026-11-01", "names neither a time to begin"),
        ("log:?row=5", "unknown part 'row'"),
        ("log:?rows=-1", "not a whole number"),
        ("log:?from=yesterday", "not a time of ISO 8601"),
        ("log:?from=0001-01-01T00:00%2B14:00", "not a time of ISO 8601"),
        ("log:?rows=0", "not a whole number"),
        ("log:?rows=1e5", "not a whole number"),
        ("log:?from=2026-11-02&to=2026-11-01", "before it begins"),
    ],
)
def test_what_means_nothing_is_refused(address: str, message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        parse_window(address)

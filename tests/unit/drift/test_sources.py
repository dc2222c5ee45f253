"""Addresses of a window say what they mean, or are refused with an example."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from drift.compare.sources import LogWindow, log_window
from stepkit.errors import BadParameter


def test_the_newest_rows() -> None:
    assert log_window("log:?rows=2000") == LogWindow(rows=2000)


@pytest.mark.parametrize("digits", ["99999999999999999999", "9" * 5000, "0" * 30 + "9" * 19])
def test_more_rows_than_a_database_can_count_means_all_of_them(digits: str) -> None:
    assert log_window(f"log:?rows={digits}") == LogWindow(rows=2**63 - 1)


def test_a_span_of_time_in_any_zone() -> None:
    found = log_window("log:?from=2026-11-01T01:00+01:00&to=2026-11-01T02:00Z&version=any")
    assert (found.start, found.end, found.version) == (
        datetime(2026, 11, 1, 0, tzinfo=UTC),
        datetime(2026, 11, 1, 2, tzinfo=UTC),
        "any",
    )


def test_a_time_without_a_zone_is_in_utc() -> None:
    assert log_window("log:?from=2026-11-01").start == datetime(2026, 11, 1, tzinfo=UTC)


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
        log_window(address)

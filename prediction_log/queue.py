"""What waits to be written to the prediction log, and the count of what became of everything handed in."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field

from sqlalchemy import URL

from prediction_log.engine import shown_url
from prediction_log.errors import LogUnavailable
from prediction_log.rows import Prediction, Row

MOST_WAITING = 50_000
"""Rows that may wait to be written; beyond, a request is refused at once rather than kept in memory."""


@dataclass(frozen=True, slots=True)
class Stats:
    """What one process has done with its log so far; all but the first and the last two count predictions.

    Attributes:
        queued: predictions that wait to be written or are being written.
        not_kept: left out by the sampling rate.
        failed: handed in and not written.
        purged: removed by this process because they were too old.
        last_commit_seconds: how long the newest commit took, from BEGIN to COMMIT.
        lag_seconds: how long the oldest prediction that is not written yet has been waiting.
    """

    queued: int
    committed: int
    not_kept: int
    failed: int
    purged: int
    last_commit_seconds: float
    lag_seconds: float


@dataclass(slots=True)
class Request:
    """The predictions of one request, the rows that they become, and the future of who waits for them.

    Attributes:
        fresh: its id was made for it, and so cannot stand on record.
    """

    predictions: list[Prediction]
    future: Future[None]
    fresh: bool = False
    since: float = field(default_factory=time.monotonic)
    rows: list[Row] = field(default_factory=list)


class Waiting:
    """Requests handed in by any thread and taken by the one that writes; each method may be called from any thread."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._requests: deque[Request] = deque()
        self._change = threading.Condition()
        self._closing = False
        self._queued = self._committed = self._not_kept = self._failed = self._purged = 0
        self._last_commit = 0.0
        self._oldest: float | None = None

    @property
    def is_closing(self) -> bool:
        return self._closing

    def add(self, request: Request) -> LogUnavailable | None:
        """Queue a request; return why it is not taken where it is not."""
        rows = len(request.predictions)
        with self._change:
            refusal = self._refusal(rows)
            if refusal:
                self._failed += rows
            else:
                self._requests.append(request)
                self._queued += rows
                self._change.notify()
        return refusal

    def _refusal(self, rows: int) -> LogUnavailable | None:
        if self._closing:
            return closed(self._url)
        if self._queued and self._queued + rows > MOST_WAITING:
            return LogUnavailable(
                f"{self._queued:,} predictions wait to be written to {shown_url(self._url)} already. "
                f"Send fewer at a time, or use a faster database."
            )
        return None

    def take(self, seconds: float | None) -> list[Request] | None:
        """Wait for requests and return all there are; none after `seconds`; None once it is closed and empty."""
        with self._change:
            self._change.wait_for(lambda: self._requests or self._closing, seconds)
            if self._closing and not self._requests:
                return None
            group = list(self._requests)
            self._requests.clear()
            self._oldest = group[0].since if group else None
            return group

    def end_group(self) -> None:
        """Note that all that was taken last has been written or has failed."""
        with self._change:
            self._oldest = None

    def close(self) -> None:
        """Take no more requests, and let the writing thread end after those that are there."""
        with self._change:
            self._closing = True
            self._change.notify()

    def leave(self) -> list[Request]:
        """Return what nobody will write any more."""
        with self._change:
            left = list(self._requests)
            self._requests.clear()
            return left

    def count_written(self, group: list[Request], seconds: float) -> None:
        count = sum(len(request.predictions) for request in group)
        with self._change:
            self._queued -= count
            self._committed += count
            self._last_commit = seconds

    def count_failed(self, group: list[Request]) -> None:
        count = sum(len(request.predictions) for request in group)
        with self._change:
            self._queued -= count
            self._failed += count

    def count_others(self, *, not_kept: int = 0, failed: int = 0, purged: int = 0) -> None:
        """Count predictions that never were queued."""
        with self._change:
            self._not_kept += not_kept
            self._failed += failed
            self._purged += purged

    def stats(self) -> Stats:
        with self._change:
            since = self._oldest or (self._requests[0].since if self._requests else None)
            return Stats(
                queued=self._queued,
                committed=self._committed,
                not_kept=self._not_kept,
                failed=self._failed,
                purged=self._purged,
                last_commit_seconds=self._last_commit,
                lag_seconds=time.monotonic() - since if since else 0.0,
            )


def closed(url: URL) -> LogUnavailable:
    return LogUnavailable(f"the prediction log {shown_url(url)} is closed.")

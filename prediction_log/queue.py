"""What waits to be written to the prediction log, and the count of what became of everything handed in."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field

from sqlalchemy import URL

from prediction_log.engine import format_url
from prediction_log.errors import LogUnavailable
from prediction_log.rows import Prediction

MAX_QUEUED_ROWS = 50_000
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
    rows: list[Prediction] = field(default_factory=list)


class RequestQueue:
    """Requests handed in by any thread and taken by the one that writes; each method may be called from any thread."""

    def __init__(self, url: URL) -> None:
        self.is_closing = False
        self._url = url
        self._requests: list[Request] = []
        self._change = threading.Condition()
        self._counts = dict.fromkeys(("queued", "committed", "not_kept", "failed", "purged"), 0)
        self._last_commit = 0.0
        self._oldest: float | None = None

    def add(self, request: Request, is_writing: bool) -> LogUnavailable | None:
        """Queue a request; return why it is not taken where it is not, as where no thread is writing."""
        rows = len(request.predictions)
        with self._change:
            queued = self._counts["queued"]
            if is_writing and not self.is_closing and (not queued or queued + rows <= MAX_QUEUED_ROWS):
                self._requests.append(request)
                self._counts["queued"] += rows
                self._change.notify()
                return None
            self._counts["failed"] += rows
        if not is_writing or self.is_closing:
            return LogUnavailable(f"the prediction log {format_url(self._url)} is closed.")
        return LogUnavailable(
            f"{queued:,} predictions wait to be written to {format_url(self._url)} already. "
            f"Send fewer at a time, or use a faster database."
        )

    def take(self, seconds: float | None = None) -> list[Request] | None:
        """Wait for requests and return all there are; none after `seconds`; None once it is closed and empty."""
        with self._change:
            self._oldest = None  # what was taken before has been written, or has failed
            self._change.wait_for(lambda: self._requests or self.is_closing, seconds)
            if self.is_closing and not self._requests:
                return None
            group, self._requests = self._requests, []
            self._oldest = group[0].since if group else None
            return group

    def close(self) -> None:
        """Take no more requests, and let the writing thread end after those that are there."""
        with self._change:
            self.is_closing = True
            self._change.notify()

    def count_ended(self, group: list[Request], kind: str, seconds: float = 0.0) -> None:
        """Count predictions that were queued as "committed" (`seconds`: the time of the commit) or "failed"."""
        rows = sum(len(request.predictions) for request in group)
        with self._change:
            self._last_commit = seconds or self._last_commit
            self.count("queued", -rows)
            self.count(kind, rows)

    def count(self, kind: str, predictions: int) -> None:
        with self._change:
            self._counts[kind] += predictions

    def get_stats(self) -> Stats:
        with self._change:
            since = self._oldest or (self._requests[0].since if self._requests else None)
            lag = time.monotonic() - since if since else 0.0
            return Stats(**self._counts, last_commit_seconds=self._last_commit, lag_seconds=lag)

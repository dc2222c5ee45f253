"""Queue of the requests that wait to be written to the prediction log, with its counters."""

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
"""Limit of the queue, to bound its memory; a request beyond it fails at once."""


@dataclass(frozen=True, slots=True)
class Stats:
    """Counters of one process: predictions since its start, except `queued` and the two times.

    Attributes:
        queued: predictions that wait to be written or are being written.
        not_kept: left out by the sampling rate.
        failed: submitted, but not written.
        purged: deleted by this process because of their age.
        last_commit_seconds: duration of the latest commit, from BEGIN to COMMIT.
        lag_seconds: age of the oldest prediction in the queue.
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
    """The predictions of one request, its rows for the log, and the future that its caller waits for.

    Attributes:
        fresh: the request id is new, so the log need not be searched for it.
    """

    predictions: list[Prediction]
    future: Future[None]
    fresh: bool = False
    since: float = field(default_factory=time.monotonic)
    rows: list[Prediction] = field(default_factory=list)


class RequestQueue:
    """Thread-safe queue: any thread adds requests, the writing thread takes them."""

    def __init__(self, url: URL) -> None:
        self.is_closing = False
        self._url = url
        self._requests: list[Request] = []
        self._change = threading.Condition()
        self._counts = dict.fromkeys(("queued", "committed", "not_kept", "failed", "purged"), 0)
        self._last_commit = 0.0
        self._oldest: float | None = None

    def add(self, request: Request, is_writing: bool) -> LogUnavailable | None:
        """Queue a request; return an error if the queue is full, or no thread will write the request."""
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
            return LogUnavailable(f"prediction log {format_url(self._url)}: closed.")
        return LogUnavailable(
            f"prediction log {format_url(self._url)}: queue full ({queued:,} predictions wait to be written, "
            f"limit {MAX_QUEUED_ROWS:,}). Send fewer rows at a time, or use a faster database."
        )

    def take(self, seconds: float | None = None) -> list[Request] | None:
        """Wait up to `seconds` for requests and return all of them; return None once the queue is closed and empty."""
        with self._change:
            self._oldest = None  # the previous group has been written, or has failed
            self._change.wait_for(lambda: self._requests or self.is_closing, seconds)
            if self.is_closing and not self._requests:
                return None
            group, self._requests = self._requests, []
            self._oldest = group[0].since if group else None
            return group

    def close(self) -> None:
        """Accept no more requests; the writing thread ends after those in the queue."""
        with self._change:
            self.is_closing = True
            self._change.notify()

    def count_ended(self, group: list[Request], kind: str, seconds: float = 0.0) -> None:
        """Count the predictions of `group` as `kind`, "committed" (in `seconds`) or "failed", no longer as queued."""
        rows = sum(len(request.predictions) for request in group)
        with self._change:
            self._last_commit = seconds or self._last_commit
            self.count("queued", -rows)
            self.count(kind, rows)

    def count(self, kind: str, predictions: int) -> None:
        """Add to the counter `kind`, a field of Stats."""
        with self._change:
            self._counts[kind] += predictions

    def get_stats(self) -> Stats:
        """Return the current counters."""
        with self._change:
            since = self._oldest or (self._requests[0].since if self._requests else None)
            lag = time.monotonic() - since if since else 0.0
            return Stats(**self._counts, last_commit_seconds=self._last_commit, lag_seconds=lag)

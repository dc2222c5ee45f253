"""The prediction log: hand predictions in, get a future that is resolved once they are committed."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError, SQLAlchemyError

from serve.record.engine import ROOT, file_of, open_engine, unavailable
from serve.record.errors import LogUnavailable, LogUnfit, RequestIdTaken
from serve.record.rows import Prediction, Row, kept_of, rows_of
from serve.record.schema import prepare
from serve.record.settings import LogSettings
from serve.record.store import Taken, commit, purge_batches

__all__ = ["LogUnavailable", "LogUnfit", "Prediction", "PredictionLog", "RequestIdTaken", "Stats"]

MOST_WAITING = 50_000
"""Rows that may wait to be written; beyond, a request is refused at once rather than kept in memory."""

SECONDS_BETWEEN_PURGES = 3600.0
logger = logging.getLogger(__name__)


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
class _Request:
    predictions: list[Prediction]
    future: Future[None]
    since: float
    rows: list[Row]


class PredictionLog:
    """One process's way into a log; any number of processes may write to the same one.

    A thread of its own takes everything that has queued up, writes it in one transaction, and resolves the futures:
    the more requests at once, the fewer commits a request costs.
    """

    def __init__(
        self, engine: Engine, settings: LogSettings, on_commit: Callable[[int, float], None] | None = None
    ) -> None:
        self.engine = engine
        self.settings = settings
        self._on_commit = on_commit
        self._waiting: deque[_Request] = deque()
        self._change = threading.Condition()
        self._closing = False
        self._prepared = False
        self._file: tuple[int, int] | None = None
        self._queued = self._committed = self._not_kept = self._failed = self._purged = 0
        self._last_commit = 0.0
        self._oldest: float | None = None
        self._purging: Iterator[int] | None = None
        self._next_purge = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)

    @classmethod
    def open(
        cls,
        url: str,
        settings: LogSettings | None = None,
        *,
        base: Path = ROOT,
        must_answer: bool = True,
        on_commit: Callable[[int, float], None] | None = None,
    ) -> PredictionLog:
        """Open a log; make its tables, or bring them up to date.

        Args:
            url: sqlite:///FILE (relative: to `base`, the repository) or postgresql://...
            must_answer: False lets a log be opened whose database is down; it is looked for at each write.
            on_commit: called by the writing thread after each commit, with its rows and seconds.

        Raises:
            LogUnfit: the address is of no log, or the log was made by newer code.
            LogUnavailable: the database does not answer (unless `must_answer` is False).
        """
        log = cls(open_engine(url, base), settings or LogSettings(), on_commit)
        try:
            log._prepare()
        except LogUnavailable as error:
            if must_answer:
                log.engine.dispose()
                raise
            logger.warning("%s", error)
        log._thread.start()
        return log

    def submit(self, predictions: list[Prediction]) -> Future[None]:
        """Hand in the predictions of one request; never waits.

        Returns:
            A future without a value, resolved once all of them are committed (or left out by the sampling rate).
            It raises LogUnavailable (they are not on record), RequestIdTaken (another request with this id is) or
            ValueError (something that cannot be written). It cannot be cancelled.
        """
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # a caller that gives up must not unsettle the thread that resolves it
        kept = kept_of(predictions, self.settings.sample_rate)
        with self._change:
            self._not_kept += len(predictions) - len(kept)
            refusal = self._refusal(len(kept))
            if kept and not refusal:
                self._waiting.append(_Request(kept, future, time.monotonic(), []))
                self._queued += len(kept)
                self._change.notify()
                return future
            self._failed += len(kept)
        if refusal and kept:
            future.set_exception(refusal)
        else:
            future.set_result(None)
        return future

    def stats(self) -> Stats:
        with self._change:
            since = self._oldest or (self._waiting[0].since if self._waiting else None)
            return Stats(
                queued=self._queued,
                committed=self._committed,
                not_kept=self._not_kept,
                failed=self._failed,
                purged=self._purged,
                last_commit_seconds=self._last_commit,
                lag_seconds=time.monotonic() - since if since else 0.0,
            )

    def close(self, timeout: float = 30.0) -> None:
        """Write what is waiting, then end the thread; what is not written after `timeout` seconds fails."""
        with self._change:
            self._closing = True
            self._change.notify()
        if self._thread.is_alive():
            self._thread.join(timeout)
        with self._change:
            left = list(self._waiting)
            self._waiting.clear()
        self._fail(left, LogUnavailable(f"the prediction log {self.engine.url!r} was closed before this was written."))

    def _refusal(self, rows: int) -> LogUnavailable | None:
        if self._closing or not self._thread.is_alive():  # a fork has no threads but its own
            return LogUnavailable(f"the prediction log {self.engine.url!r} is closed.")
        if self._queued and self._queued + rows > MOST_WAITING:
            return LogUnavailable(
                f"{self._queued:,} predictions wait to be written to {self.engine.url!r} already. "
                f"Send fewer at a time, or use a faster database."
            )
        return None

    def _run(self) -> None:
        while (group := self._take()) is not None:
            if group:
                self._write(group)
                with self._change:
                    self._oldest = None
            self._purge_a_little()
        self.engine.dispose()

    def _take(self) -> list[_Request] | None:
        """Wait for requests and return all there are; none when old rows are to be removed; None at the end."""
        with self._change:
            self._change.wait_for(lambda: self._waiting or self._closing, self._seconds_to_purge())
            if self._closing and not self._waiting:
                return None
            group = list(self._waiting)
            self._waiting.clear()
            self._oldest = group[0].since if group else None
            return group

    def _write(self, group: list[_Request]) -> None:
        group = [request for request in group if self._has_rows(request)]
        if not group:
            return
        try:
            started = time.perf_counter()
            self._commit(group)
        except Taken as taken:
            self._refuse_taken(group, taken.positions)
        except (OperationalError, LogUnavailable, LogUnfit) as error:
            # a database that is only busy still has its tables; any other may be a new, empty one
            self._prepared = self._prepared and "locked" in str(error)
            self._fail(group, self._reason(error))
        except Exception as error:
            # whatever it is about: it must not end the thread, nor harm a request that has no part in it
            if len(group) > 1:
                for request in group:
                    self._write([request])
            else:
                self._prepared = False
                self._fail(group, self._reason(error))
        else:
            self._succeed(group, time.perf_counter() - started)

    def _reason(self, error: Exception) -> Exception:
        if isinstance(error, LogUnavailable | LogUnfit):
            return error
        if isinstance(error, DBAPIError) and not isinstance(error, IntegrityError | DataError):
            return unavailable(self.engine.url, error)
        return ValueError(f"cannot be put on record: {' '.join(str(error).split())[:300]}")

    def _has_rows(self, request: _Request) -> bool:
        try:
            request.rows = rows_of(request.predictions, self.settings.redact)
        except (ValueError, TypeError, AttributeError) as error:
            self._fail([request], ValueError(f"cannot be put on record: {error}"))
            return False
        return True

    def _commit(self, group: list[_Request]) -> None:
        """Commit; once more when the connection was lost, since a server that was started anew takes a new one.

        The second time is harmless where the first had come through without our hearing of it.
        """
        requests = [request.rows for request in group]
        try:
            self._prepare()
            commit(self.engine, requests)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            commit(self.engine, requests)

    def _prepare(self) -> None:
        """See that the tables are there: at the start, after a failure, and when somebody put the file away."""
        file = file_of(self.engine)
        if self._prepared and self._file == _identity(file):
            return
        self.engine.dispose()
        prepare(self.engine)
        self._file, self._prepared = _identity(file), True

    def _refuse_taken(self, group: list[_Request], positions: set[int]) -> None:
        for position in positions:
            name = group[position].rows[0].request_id
            self._fail([group[position]], RequestIdTaken(
                f"request id '{name}' stands in the prediction log with other rows. Give each request an id of its own."
            ))  # fmt: skip
        self._write([request for position, request in enumerate(group) if position not in positions])

    def _succeed(self, group: list[_Request], seconds: float) -> None:
        count = sum(len(request.predictions) for request in group)
        with self._change:
            self._queued -= count
            self._committed += count
            self._last_commit = seconds
        for request in group:
            request.future.set_result(None)
        if self._on_commit:
            try:
                self._on_commit(count, seconds)
            except Exception:  # a fault in somebody's metrics is no reason to stop writing
                logger.exception("on_commit failed")

    def _fail(self, group: list[_Request], error: Exception) -> None:
        count = sum(len(request.predictions) for request in group)
        with self._change:
            self._queued -= count
            self._failed += count
        for request in group:
            request.future.set_exception(error)

    def _seconds_to_purge(self) -> float | None:
        if self.settings.keep_days is None:
            return None
        return max(0.0, self._next_purge - time.monotonic())

    def _purge_a_little(self) -> None:
        """Remove one batch of old rows when it is time to; requests that came meanwhile are written before the next."""
        if self.settings.keep_days is None or self._closing or time.monotonic() < self._next_purge:
            return
        try:
            self._purging = self._purging or purge_batches(self.engine, self.settings.keep_days)
            removed = next(self._purging, None)
        except (LogUnavailable, SQLAlchemyError) as error:
            logger.warning("old predictions stay for now: %s", error)
            removed = None
        if removed is None:
            self._purging, self._next_purge = None, time.monotonic() + SECONDS_BETWEEN_PURGES
        with self._change:
            self._purged += removed or 0


def _identity(file: Path | None) -> tuple[int, int] | None:
    """What tells a file from another one at the same place; None for none."""
    if file is None or not file.exists():
        return None
    found = file.stat()
    return found.st_dev, found.st_ino

"""Writer of the prediction log: submit predictions, get a future that resolves once they are committed."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, OperationalError

from prediction_log.engine import DAMAGE_CODES, ROOT, format_url, get_sqlite_code, is_busy, open_engine, to_log_error
from prediction_log.errors import LogUnavailable, LogUnfit, RequestIdTaken
from prediction_log.files import LogFile
from prediction_log.insert import IdConflict, commit
from prediction_log.queue import Request, RequestQueue, Stats
from prediction_log.retention import Purger
from prediction_log.rows import Prediction, select_sample, to_log_rows
from prediction_log.schema import prepare_tables
from prediction_log.settings import LogSettings
from stepkit.errors import StepError

__all__ = ["LogUnavailable", "LogUnfit", "Prediction", "PredictionLog", "RequestIdTaken", "Stats"]

T = TypeVar("T")
MAX_ATTEMPTS = 3
"""Maximum number of attempts for one commit, if the connection breaks or the file is moved or damaged."""

REWRITE_SECONDS, KEYS_TO_CHECK = 1.0, 20
"""Acknowledged rows are kept for REWRITE_SECONDS, to write them again if the file is removed before the response is
sent. A check of a changed file reads KEYS_TO_CHECK of them."""

logger = logging.getLogger(__name__)


class PredictionLog:
    """Writer of one process; any number of processes may write to the same log.

    A thread writes all queued requests in one transaction and then resolves their futures, so that concurrent requests
    share a commit.
    """

    def __init__(self, engine: Engine, settings: LogSettings, on_commit: Callable[[float], None] | None = None) -> None:
        """Set up the writer without connecting; see `open`."""
        self.engine = engine
        self.settings = settings
        self.redacted = frozenset(settings.redact)
        self._on_commit = on_commit
        self._queue = RequestQueue(engine.url)
        self._purger = Purger(engine, settings.keep_days)
        self._prepared = False
        self._file = LogFile(engine)
        self._lock = threading.RLock()
        self._recent: deque[tuple[float, list[Prediction]]] = deque()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)

    @classmethod
    def open(
        cls,
        url: str,
        settings: LogSettings | None = None,
        *,
        base: Path = ROOT,
        must_answer: bool = True,
        on_commit: Callable[[float], None] | None = None,
    ) -> PredictionLog:
        """Open a log; create or upgrade its tables.

        Args:
            url: sqlite:///FILE (relative to `base`) or postgresql://...
            settings: sampling, redaction and retention; None for the defaults.
            base: folder of a relative path; by default the repository.
            must_answer: False to open a log whose database is down; each write then tries again.
            on_commit: called in the writing thread after each commit, with its duration in seconds.

        Raises:
            LogUnfit: the URL is wrong, or newer code created the log.
            LogUnavailable: the database does not respond (unless `must_answer` is False).
        """
        log = cls(open_engine(url, base), settings or LogSettings(), on_commit)
        try:
            log._prepare_file()
        except LogUnavailable as error:
            if must_answer:
                log.engine.dispose()
                raise
            logger.warning("%s", error)
        log._thread.start()
        return log

    def submit(self, predictions: list[Prediction], *, fresh: bool = False) -> Future[None]:
        """Queue the predictions of one request, without waiting.

        Args:
            predictions: all rows of the request.
            fresh: the request id is new, so the log need not be searched for it.

        Returns:
            A future that resolves to None once all predictions are committed, or left out by the sampling rate. Its
            errors: LogUnavailable or LogUnfit (not written), RequestIdTaken (the id belongs to another request),
            ValueError (a value cannot be stored). The future cannot be cancelled.
        """
        future: Future[None] = Future()
        # A caller must not cancel the future, because the writing thread resolves it.
        future.set_running_or_notify_cancel()
        sample = select_sample(predictions, self.settings.sample_rate)
        self._queue.count("not_kept", len(predictions) - len(sample))
        if not sample:
            future.set_result(None)
        # A forked process has no writing thread.
        elif error := self._queue.add(Request(sample, future, fresh), is_writing=self._thread.is_alive()):
            future.set_exception(error)
        return future

    def get_stats(self) -> Stats:
        """Return the counters of this process."""
        return self._queue.get_stats()

    def close(self, timeout: float = 30.0) -> None:
        """Write the queue, then end the thread; requests that are not written after `timeout` seconds fail."""
        self._queue.close()
        if self._thread.is_alive():
            self._thread.join(timeout)
        late = LogUnavailable(
            f"prediction log {format_url(self.engine.url)}: closed before this prediction was written."
        )
        self._fail(self._queue.take() or [], late)

    def _run(self) -> None:
        while (group := self._queue.take(self._purger.compute_wait())) is not None:
            if group:
                self._write(group)
            # One batch at a time, so that new requests do not wait for the whole purge.
            if not self._queue.is_closing and (removed := self._purger.remove_batch()):
                self._queue.count("purged", removed)
        self.engine.dispose()

    def _write(self, group: list[Request]) -> None:
        group = [request for request in group if self._fill_rows(request)]
        if not group:
            return
        rows = [request.rows for request in group]
        fresh = {position for position, request in enumerate(group) if request.fresh}
        started = time.perf_counter()
        try:
            # A retry is harmless even if only the response to the first commit was lost.
            self.commit_with_retries(lambda: commit(self.engine, rows, fresh), rows)
        except IdConflict as conflict:
            self._reject_conflicts(group, conflict.positions)
        except (OperationalError, LogUnavailable, LogUnfit) as error:
            # A busy database still has its tables; after any other error there may be a new, empty one.
            self._prepared = self._prepared and is_busy(error)
            self._fail(group, error)
        except Exception as error:
            # Any error must neither end the thread nor fail the other requests of the group.
            if len(group) > 1:
                for request in group:
                    self._write([request])
            else:
                self._prepared = False
                self._fail(group, error)
        else:
            self._succeed(group, time.perf_counter() - started)

    def _fill_rows(self, request: Request) -> bool:
        try:
            request.rows = to_log_rows(request.predictions, self.redacted)
        except (ValueError, TypeError, AttributeError) as error:
            self._fail([request], error)
            return False
        return True

    def commit_with_retries(self, work: Callable[[], T], written: Sequence[list[Prediction]] = ()) -> T:
        """Return the result of `work`, which commits to the log; repeat it if the file was moved or damaged meanwhile.

        Args:
            work: a function that may run several times.
            written: the rows of each request that `work` commits, kept for REWRITE_SECONDS.

        Raises:
            LogUnfit, LogUnavailable, SQLAlchemyError: from `work`, or from the creation of a new log.
        """
        for _ in range(MAX_ATTEMPTS):
            try:
                generation = self._prepare_file()
                result = work()
            except (DBAPIError, LogUnfit, LogUnavailable) as error:
                if not self._should_retry(error):
                    raise
            else:
                with self._lock:
                    recent = islice(reversed(self._recent), KEYS_TO_CHECK)
                    if self._file.has_committed(
                        generation, _iter_first_keys(rows for _, rows in recent), _iter_first_keys(written)
                    ):
                        now = time.monotonic()
                        while self._recent and self._recent[0][0] < now - REWRITE_SECONDS:
                            self._recent.popleft()
                        self._recent.extend((now, rows) for rows in written)
                        return result
        raise LogUnavailable(
            f"prediction log {format_url(self.engine.url)}: moved or damaged during all {MAX_ATTEMPTS} "
            "attempts to write."
        )

    def _should_retry(self, error: Exception) -> bool:
        cause = error if isinstance(error, DBAPIError) else error.__cause__
        code = get_sqlite_code(error)
        with self._lock:
            if self._file.generation and code in DAMAGE_CODES:
                self._file.is_damaged = True
                return True
            self._prepared = self._prepared and code != sqlite3.SQLITE_IOERR
            is_disconnected = isinstance(cause, DBAPIError) and cause.connection_invalidated
            return is_disconnected or code == sqlite3.SQLITE_IOERR or (self._prepared and not self._file.is_in_place())

    def _prepare_file(self) -> int:
        """Prepare the tables at the start, after a failure, or for a new file; return the file's generation."""
        with self._lock:
            if not (self._prepared and self._file.is_in_place()):
                self._prepared = False
                with self._file.adopt_file():
                    self.engine.dispose()
                    prepare_tables(self.engine)
                if self._file.is_lost:
                    with suppress(IdConflict):  # Another log is in its place, with other rows under these ids.
                        commit(self.engine, [rows for _, rows in self._recent])
                self._file.is_lost, self._prepared = False, True
            return self._file.generation

    def _reject_conflicts(self, group: list[Request], positions: set[int]) -> None:
        for position in positions:
            request_id = group[position].rows[0].request_id
            problem = f"request id '{request_id}': already in the prediction log with other rows."
            self._fail([group[position]], RequestIdTaken(f"{problem} Give each request its own id."))
        self._write([request for position, request in enumerate(group) if position not in positions])

    def _succeed(self, group: list[Request], seconds: float) -> None:
        self._queue.count_ended(group, "committed", seconds)
        for request in group:
            request.future.set_result(None)
        if self._on_commit:
            try:
                self._on_commit(seconds)
            except Exception:  # A faulty callback must not stop the writing thread.
                logger.exception("on_commit failed")

    def _fail(self, group: list[Request], error: Exception) -> None:
        if not isinstance(error, StepError):
            error = to_log_error(self.engine.url, error)
        self._queue.count_ended(group, "failed")
        for request in group:
            request.future.set_exception(error)


def _iter_first_keys(requests: Iterable[list[Prediction]]) -> Iterator[tuple[str, int]]:
    """Yield the request id and row number of the first row of each request."""
    return ((rows[0].request_id, rows[0].row) for rows in requests)

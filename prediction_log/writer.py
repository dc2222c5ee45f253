"""The prediction log: hand predictions in, get a future that is resolved once they are committed."""

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
"""How often a commit is done, at most, where the connection was lost or the file was moved or damaged meanwhile."""

REWRITE_SECONDS, KEYS_TO_CHECK = 1.0, 20
"""How long what was acknowledged is kept to be written again: its answer may be under way while its file is removed."""

logger = logging.getLogger(__name__)


class PredictionLog:
    """One process's way into a log; any number of processes may write to the same one.

    A thread of its own takes everything that has queued up, writes it in one transaction, and resolves the futures:
    the more requests at once, the fewer commits a request costs.
    """

    def __init__(self, engine: Engine, settings: LogSettings, on_commit: Callable[[float], None] | None = None) -> None:
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
        """Open a log; make its tables, or bring them up to date.

        Args:
            url: sqlite:///FILE (relative: to `base`, the repository) or postgresql://...
            must_answer: False lets a log be opened whose database is down; it is looked for at each write.
            on_commit: called by the writing thread after each commit, with its seconds.

        Raises:
            LogUnfit: the address is of no log, or the log was made by newer code.
            LogUnavailable: the database does not answer (unless `must_answer` is False).
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
        """Hand in the predictions of one request; never waits.

        Args:
            fresh: the request's id was made for it; else the log is asked whether another request has it.

        Returns:
            A future without a value, resolved once all of them are committed (or left out by the sampling rate).
            It raises LogUnavailable (they are not on record), RequestIdTaken (another request with this id is) or
            ValueError (something that cannot be written). It cannot be cancelled.
        """
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # a caller that gives up must not unsettle the thread that resolves it
        kept = select_sample(predictions, self.settings.sample_rate)
        self._queue.count("not_kept", len(predictions) - len(kept))
        if not kept:
            future.set_result(None)
        # a fork has no threads but its own
        elif refusal := self._queue.add(Request(kept, future, fresh), is_writing=self._thread.is_alive()):
            future.set_exception(refusal)
        return future

    def get_stats(self) -> Stats:
        return self._queue.get_stats()

    def close(self, timeout: float = 30.0) -> None:
        """Write what is waiting, then end the thread; what is not written after `timeout` seconds fails."""
        self._queue.close()
        if self._thread.is_alive():
            self._thread.join(timeout)
        late = LogUnavailable(f"the prediction log {format_url(self.engine.url)} was closed before this was written.")
        self._fail(self._queue.take() or [], late)

    def _run(self) -> None:
        while (group := self._queue.take(self._purger.compute_wait())) is not None:
            if group:
                self._write(group)
            # a little at a time: what came meanwhile is written before the next batch is removed
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
            # again where the connection was lost: harmless if the first commit was done and only its answer was lost
            self.commit_with_retries(lambda: commit(self.engine, rows, fresh), rows)
        except IdConflict as taken:
            self._reject_conflicts(group, taken.positions)
        except (OperationalError, LogUnavailable, LogUnfit) as error:
            # a database that is only busy still has its tables; any other may be a new, empty one
            self._prepared = self._prepared and is_busy(error)
            self._fail(group, error)
        except Exception as error:
            # whatever it is about: it must not end the thread, nor harm a request that has no part in it
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
        """Return the result of work that commits to the log, done again where its file was moved or damaged meanwhile.

        Args:
            written: the rows of each request that the work commits; they are owed from the moment it is known to hold.

        Raises:
            LogUnfit, LogUnavailable, SQLAlchemyError: as the work, or making a new log.
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
        raise LogUnavailable(f"the prediction log {format_url(self.engine.url)} is moved or damaged again and again.")

    def _should_retry(self, error: Exception) -> bool:
        cause = error if isinstance(error, DBAPIError) else error.__cause__
        code = get_sqlite_code(error)
        with self._lock:
            if self._file.generation and code in DAMAGE_CODES:
                self._file.is_damaged = True
                return True
            self._prepared = self._prepared and code != sqlite3.SQLITE_IOERR
            lost = isinstance(cause, DBAPIError) and cause.connection_invalidated
            return lost or code == sqlite3.SQLITE_IOERR or (self._prepared and not self._file.is_in_place())

    def _prepare_file(self) -> int:
        """See that the tables are there: at the start, after a failure, and when the file was moved or damaged."""
        with self._lock:
            if not (self._prepared and self._file.is_in_place()):
                self._prepared = False
                with self._file.adopt_file():
                    self.engine.dispose()
                    prepare_tables(self.engine)
                if self._file.is_lost:
                    with suppress(
                        IdConflict
                    ):  # another file of the log is in its place, with other rows under these ids
                        commit(self.engine, [rows for _, rows in self._recent])
                self._file.is_lost, self._prepared = False, True
            return self._file.generation

    def _reject_conflicts(self, group: list[Request], positions: set[int]) -> None:
        for position in positions:
            name = group[position].rows[0].request_id
            why = (
                f"request id '{name}' stands in the prediction log with other rows. Give each request an id of its own."
            )
            self._fail([group[position]], RequestIdTaken(why))
        self._write([request for position, request in enumerate(group) if position not in positions])

    def _succeed(self, group: list[Request], seconds: float) -> None:
        self._queue.count_ended(group, "committed", seconds)
        for request in group:
            request.future.set_result(None)
        if self._on_commit:
            try:
                self._on_commit(seconds)
            except Exception:  # a fault in somebody's metrics is no reason to stop writing
                logger.exception("on_commit failed")

    def _fail(self, group: list[Request], error: Exception) -> None:
        if not isinstance(error, StepError):
            error = to_log_error(self.engine.url, error)
        self._queue.count_ended(group, "failed")
        for request in group:
            request.future.set_exception(error)


def _iter_first_keys(requests: Iterable[list[Prediction]]) -> Iterator[tuple[str, int]]:
    """Yield request id and row of the first row of each request."""
    return ((rows[0].request_id, rows[0].row) for rows in requests)

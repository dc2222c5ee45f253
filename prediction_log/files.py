"""The file of an SQLite log: no row may be lost if it is moved, replaced or damaged while the log is open.

SQLite continues to write into a file that was moved or removed, and trusts pages that another program has overwritten.
So the file is looked at after each commit as well, and a prediction is acknowledged only if its file is still in place.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Engine, event
from sqlalchemy.exc import SQLAlchemyError

from prediction_log.engine import BUSY_SECONDS, DAMAGE_CODES, find_file, get_sqlite_code
from prediction_log.errors import LogDamaged, LogUnavailable

ASIDE_INFIX = ".aside-"
"""Part of the name of a file that was moved aside, before the time (UTC) of that."""

WAL_SUFFIX = "-wal"
SIDE_SUFFIXES = (WAL_SUFFIX, "-shm")
"""Endings of the files that SQLite adds: commits that are not yet in the file, and the index of those."""

_SELECT_ROW = 'SELECT probability FROM predictions WHERE request_id = ? AND "row" = ?'
logger = logging.getLogger(__name__)


class LogFile:
    """The file of a log on SQLite; for a log on a server every method does nothing."""

    def __init__(self, engine: Engine) -> None:
        self.is_damaged = False
        self.is_lost = False
        """The rows acknowledged last may be in no file, since the old one was removed or damaged."""
        self.generation = 0
        """How many files there have been; what was committed to an earlier one is not in this one."""
        self._engine = engine
        self._path = find_file(engine)
        self._seen: os.stat_result | None = None
        self._sides: dict[str, os.stat_result | None] = {}
        if self._path:
            event.listen(engine, "do_connect", self._verify_in_place)

    def is_in_place(self) -> bool:
        return self._path is None or (not self.is_damaged and _is_same_file(_read_stat(self._path), self._seen))

    def has_committed(
        self, generation: int, keys: Iterable[tuple[str, int]], committed: Iterable[tuple[str, int]]
    ) -> bool:
        """Return whether what was committed is in the file, and can be read again; called after each commit.

        Args:
            generation: that of the file before the commit.
            keys: request id and row of some recent predictions, which are read if the file itself has changed.
            committed: those of the commit, which are read if the -wal was removed, replaced or cut off.
        """
        if self._path is None:
            return True
        state = _read_stat(self._path)
        if not state or not self._seen or not _is_same_file(state, self._seen) or generation != self.generation:
            return False
        # a checkpoint changes the file too, about every thousandth page
        if (state.st_size, state.st_mtime_ns) != (self._seen.st_size, self._seen.st_mtime_ns):
            self.is_damaged = not self._is_readable(state.st_size < self._seen.st_size, keys)
            self._seen = state
        before, wal = self._sides.get(WAL_SUFFIX), _read_stat(_add_suffix(self._path, WAL_SUFFIX))
        if before and not (wal and _is_same_file(wal, before, empty=True) and wal.st_size >= before.st_size):
            self.is_damaged = self.is_damaged or not self._is_readable(True, islice(committed, 1))
        self._sides[WAL_SUFFIX] = wal
        return not self.is_damaged

    def _is_readable(self, has_shrunk: bool, keys: Iterable[tuple[str, int]]) -> bool:
        """Look by a connection of its own, since an open one has pages in its memory."""
        address = f"file:{quote(str(self._path))}?mode=rw"
        try:
            with closing(sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS)) as connection:
                if has_shrunk and connection.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
                    return False
                rows = [connection.execute(_SELECT_ROW, key).fetchone() for key in keys]
        except sqlite3.DatabaseError as error:
            return get_sqlite_code(error) not in (*DAMAGE_CODES, sqlite3.SQLITE_IOERR)
        return not rows or any(rows)

    def _verify_in_place(self, *_: Any) -> None:
        """Refuse a new connection where the old ones have another file: it would mix the files beside both."""
        if self._seen and not self.is_in_place():
            raise sqlite3.OperationalError("the file was moved or replaced")

    @contextmanager
    def adopt_file(self) -> Iterator[None]:
        """Make way for a new file where the old one is not in place, and take note of the file that is there after it.

        One process at a time: each knows by these files whether another one has done so already.

        Raises:
            LogUnavailable: the folder cannot be read or changed.
        """
        if self._path is None:
            yield
            return
        try:
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                with suppress(OSError):  # some network mounts have no locks, and then a single process at least is safe
                    fcntl.flock(folder, fcntl.LOCK_EX)
                self._move_aside(self._path)
                try:
                    yield
                except LogDamaged:
                    self._seen, self.is_damaged = _read_stat(self._path), self.generation > 0
                    raise
                self.generation += 1
                self._sides = {suffix: _read_stat(_add_suffix(self._path, suffix)) for suffix in SIDE_SUFFIXES}
                self._seen, self.is_damaged = _read_stat(self._path), False
            finally:
                os.close(folder)
        except OSError as error:
            raise LogUnavailable(f"the prediction log {self._path} cannot be used: {error.strerror}.") from error

    def _move_aside(self, path: Path) -> None:
        state, aside = (
            _read_stat(path),
            path.with_name(f"{path.name}{ASIDE_INFIX}{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"),
        )
        if self._seen and self.is_in_place():
            return  # prepared again after a failure
        if state and _is_same_file(state, self._seen, empty=True):
            self.is_lost = True
            path.rename(aside)
            self._checkpoint_wal()
            logger.warning("%s was damaged, and is %s now", path, aside.name)
        elif self._seen:
            self._checkpoint_wal()
            aside = next(
                (other for other in path.parent.iterdir() if _is_same_file(_read_stat(other), self._seen)), aside
            )
            self.is_lost = self.is_lost or not aside.exists() or ASIDE_INFIX in aside.name
        elif state and state.st_size:
            return
        for suffix in SIDE_SUFFIXES:
            beside, state = _add_suffix(path, suffix), _read_stat(_add_suffix(path, suffix))
            # SQLite would delete a -wal whose file is missing
            if state and (self._seen is None or _is_same_file(state, self._sides.get(suffix), empty=True)):
                beside.rename(_add_suffix(aside, suffix))
                logger.warning("%s has lost its file and is %s now", beside, _add_suffix(aside, suffix).name)
        self._seen = None

    def _checkpoint_wal(self) -> None:
        """Write what only the -wal holds into the file, by a connection that has both open whatever they are called."""
        with suppress(SQLAlchemyError, sqlite3.Error), closing(self._engine.raw_connection()) as connection:
            connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")


def _add_suffix(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _read_stat(path: Path) -> os.stat_result | None:
    """Without opening the file: to close it again would take SQLite's locks from this process."""
    try:
        return path.stat()
    except OSError:
        return None


def _is_same_file(state: os.stat_result | None, seen: os.stat_result | None, empty: bool = False) -> bool:
    """Return whether it is the same file, and (unless `empty` files count) not one that SQLite takes for a new one."""
    return bool(state and seen and os.path.samestat(state, seen) and (empty or state.st_size))

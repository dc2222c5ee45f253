"""File of an SQLite log, watched so that no row is lost if it is moved, replaced or damaged while the log is open.

SQLite continues to write to a file that was moved or removed, and trusts pages that another program has overwritten.
So the file is checked after each commit, and a prediction is acknowledged only if its file is still in place.
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
"""Part of the name of a file that was moved aside, followed by the time (UTC)."""

WAL_SUFFIX = "-wal"
SIDE_SUFFIXES = (WAL_SUFFIX, "-shm")
"""Suffixes of SQLite's additional files: commits that are not in the database file yet, and their index."""

_SELECT_ROW = 'SELECT probability FROM predictions WHERE request_id = ? AND "row" = ?'
logger = logging.getLogger(__name__)


class LogFile:
    """File of an SQLite log; for a log on a server, every method does nothing."""

    def __init__(self, engine: Engine) -> None:
        self.is_damaged = False
        self.is_lost = False
        """The latest acknowledged rows may be in no file, since the old file was removed or damaged."""
        self.generation = 0
        """Number of files so far; the current file lacks the commits to earlier ones."""
        self._engine = engine
        self._path = find_file(engine)
        self._last_stat: os.stat_result | None = None
        self._side_stats: dict[str, os.stat_result | None] = {}
        if self._path:
            event.listen(engine, "do_connect", self._verify_in_place)

    def is_in_place(self) -> bool:
        """Return whether the path still leads to the file in use, undamaged."""
        return self._path is None or (not self.is_damaged and _is_same_file(_read_stat(self._path), self._last_stat))

    def has_committed(
        self, generation: int, keys: Iterable[tuple[str, int]], committed: Iterable[tuple[str, int]]
    ) -> bool:
        """Return whether the rows of a commit are in the file and readable; called after each commit.

        Args:
            generation: of the file before the commit.
            keys: request id and row of recent predictions, read as a check if the database file has changed.
            committed: the same of the commit, read if the -wal was removed, replaced or cut off.
        """
        if self._path is None:
            return True
        last_stat, state = self._last_stat, _read_stat(self._path)
        if not state or not last_stat or not _is_same_file(state, last_stat) or generation != self.generation:
            return False
        # A checkpoint changes the file too, about every thousand pages.
        if (state.st_size, state.st_mtime_ns) != (last_stat.st_size, last_stat.st_mtime_ns):
            self.is_damaged = not self._is_readable(state.st_size < last_stat.st_size, keys)
            self._last_stat = state
        old_wal, wal = self._side_stats.get(WAL_SUFFIX), _read_stat(_add_suffix(self._path, WAL_SUFFIX))
        if old_wal and not (wal and _is_same_file(wal, old_wal, empty=True) and wal.st_size >= old_wal.st_size):
            self.is_damaged = self.is_damaged or not self._is_readable(True, islice(committed, 1))
        self._side_stats[WAL_SUFFIX] = wal
        return not self.is_damaged

    def _is_readable(self, has_shrunk: bool, keys: Iterable[tuple[str, int]]) -> bool:
        """Check with a new connection, because an open one has cached pages."""
        uri = f"file:{quote(str(self._path))}?mode=rw"
        try:
            with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS)) as connection:
                if has_shrunk and connection.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
                    return False
                rows = [connection.execute(_SELECT_ROW, key).fetchone() for key in keys]
        except sqlite3.DatabaseError as error:
            return get_sqlite_code(error) not in (*DAMAGE_CODES, sqlite3.SQLITE_IOERR)
        return not rows or any(rows)

    def _verify_in_place(self, *_: Any) -> None:
        """Prevent a new connection while the old ones use another file, since both would share -wal and -shm."""
        if self._last_stat and not self.is_in_place():
            raise sqlite3.OperationalError("the file was moved or replaced")

    @contextmanager
    def adopt_file(self) -> Iterator[None]:
        """Move a misplaced or damaged file aside, let the block open or create the log, then adopt its file.

        A lock on the folder admits one process at a time, which sees in the files what others have already done.

        Raises:
            LogUnavailable: the folder cannot be read or changed.
        """
        if self._path is None:
            yield
            return
        try:
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                with suppress(OSError):  # Some network mounts lack locks; one process is safe without.
                    fcntl.flock(folder, fcntl.LOCK_EX)
                self._move_aside(self._path)
                try:
                    yield
                except LogDamaged:
                    self._last_stat, self.is_damaged = _read_stat(self._path), self.generation > 0
                    raise
                self.generation += 1
                self._side_stats = {suffix: _read_stat(_add_suffix(self._path, suffix)) for suffix in SIDE_SUFFIXES}
                self._last_stat, self.is_damaged = _read_stat(self._path), False
            finally:
                os.close(folder)
        except OSError as error:
            raise LogUnavailable(f"prediction log {self._path}: cannot be used ({error.strerror}).") from error

    def _move_aside(self, path: Path) -> None:
        state = _read_stat(path)
        aside = path.with_name(f"{path.name}{ASIDE_INFIX}{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
        if self._last_stat and self.is_in_place():
            return  # only prepared again after a failure
        if state and _is_same_file(state, self._last_stat, empty=True):
            self.is_lost = True
            path.rename(aside)
            self._checkpoint_wal()
            logger.warning("prediction log %s: damaged, moved to %s", path, aside.name)
        elif self._last_stat:
            self._checkpoint_wal()
            moved = (file for file in path.parent.iterdir() if _is_same_file(_read_stat(file), self._last_stat))
            aside = next(moved, aside)
            self.is_lost = self.is_lost or not aside.exists() or ASIDE_INFIX in aside.name
        elif state and state.st_size:
            return
        for suffix in SIDE_SUFFIXES:
            side_file = _add_suffix(path, suffix)
            state = _read_stat(side_file)
            # SQLite would delete a -wal whose database file is missing.
            if state and (self._last_stat is None or _is_same_file(state, self._side_stats.get(suffix), empty=True)):
                side_file.rename(_add_suffix(aside, suffix))
                logger.warning("%s: database file missing, moved to %s", side_file, _add_suffix(aside, suffix).name)
        self._last_stat = None

    def _checkpoint_wal(self) -> None:
        """Write the commits of the -wal to the database file, through a connection that still has both open."""
        with suppress(SQLAlchemyError, sqlite3.Error), closing(self._engine.raw_connection()) as connection:
            connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")


def _add_suffix(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _read_stat(path: Path) -> os.stat_result | None:
    """Return a file's stat or None; never open the file, because closing it would release SQLite's locks."""
    try:
        return path.stat()
    except OSError:
        return None


def _is_same_file(state: os.stat_result | None, other: os.stat_result | None, empty: bool = False) -> bool:
    """Return whether both are the same file; an empty one, which SQLite treats as new, only counts with `empty`."""
    return bool(state and other and os.path.samestat(state, other) and (empty or state.st_size))

"""Save and restore an SQLite database: by SQLite's own online backup, while others write to it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from backup.errors import SourceUnreadable, TargetUnfit
from backup.undo import Undo

ENDING = ".sqlite"
BESIDE = ("-wal", "-shm", "-journal")
"""Files that SQLite keeps beside a database; those of an old one must never meet a new one."""

WAIT_SECONDS = 30.0
"""How long another process may keep the database locked before it counts as unreadable."""


def save(address: str, target: Path) -> None:
    """Copy a database to a new file, as of one moment, in one transaction that reads.

    In steps it would begin anew after each commit of another process, and under steady writing never end. In WAL mode
    (the prediction log) nobody waits for it. In the other modes who writes waits until the pages are copied, about a
    second for 200 MB; so they are not brought to the disk before they all are.

    Raises:
        SourceUnreadable: no such file, no database, or one that stays locked.
    """
    source = Path(address)
    if not source.is_file():
        raise SourceUnreadable(f"there is no database at {source}. Run the pipeline once, or name another one.")
    live = sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=WAIT_SECONDS)
    with closing(live), closing(sqlite3.connect(target)) as copy:
        try:
            copy.execute("PRAGMA synchronous=OFF")
            live.execute("BEGIN")
            live.execute("SELECT count(*) FROM sqlite_master").fetchone()  # takes the lock, or says that it cannot
            live.backup(copy)
            live.rollback()
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, whatever the source does
        except sqlite3.DatabaseError as error:
            raise SourceUnreadable(f"{source} cannot be read: {error}") from error
    with target.open("r+b") as file:
        os.fsync(file.fileno())


def facts(address: str) -> tuple[dict[str, int], dict[str, str]]:
    """Return the rows of each table, and the schema versions that Alembic wrote down, by their tables."""
    with closing(sqlite3.connect(f"file:{address}?mode=ro", uri=True, timeout=WAIT_SECONDS)) as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        names = sorted(name for (name,) in found.fetchall())
        rows = {name: int(connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]) for name in names}
        versions = {}
        for name in names:
            with suppress(sqlite3.OperationalError):  # not a table of Alembic's
                versions[name] = str(connection.execute(f'SELECT version_num FROM "{name}"').fetchone()[0])
    return rows, versions


def expect_ready(address: str, replace: bool) -> None:
    """Raise TargetUnfit where a restore would pull a file from under a process, or overwrite one unasked."""
    target = Path(address)
    if user := _who_has_open(target):
        raise TargetUnfit(f"{target} is in use by process {user}. Stop it (server, scorer, pipeline) first.")
    if target.exists() and not replace:
        raise TargetUnfit(f"{target} is there already. Type replace=yes to put it aside and restore over it.")


def restore(source: Path, address: str, undo: Undo) -> None:
    """Put a saved database in place in one step; what was there is kept under its name and `undo.aside`."""
    target = Path(address)
    partial = target.with_name(f"{target.name}.partial")
    undo.will_make(partial)
    shutil.copyfile(source, partial)
    for old in (target, *(target.with_name(target.name + ending) for ending in BESIDE)):
        if old.exists():
            undo.move(old, old.with_name(f"{target.name}{undo.aside}{old.name.removeprefix(target.name)}"))
    undo.will_make(target)
    partial.replace(target)


def _who_has_open(path: Path) -> int | None:
    """The id of a process that has a file open, where the system tells (Linux)."""
    wanted = {str(path.resolve()), *(f"{path.resolve()}{ending}" for ending in BESIDE)}
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if str(entry.readlink()) in wanted:
                return int(entry.parts[2])
    return None

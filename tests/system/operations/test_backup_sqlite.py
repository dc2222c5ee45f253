"""The copy of an SQLite database ends while another process writes without a pause, and is of one moment."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from backup import databases
from backup.errors import SourceUnreadable
from backup.restore import _swap_files
from stepkit.paths import ROOT
from tests.support.servers import wait_until

MEGABYTES = 200
SECONDS = 60
WRITER = """
import sqlite3, sys
writer = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
writer.execute("PRAGMA synchronous=OFF")
while True:
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO pairs VALUES (1)")
    writer.execute("INSERT INTO pairs VALUES (2)")
    writer.execute("COMMIT")
"""
SAVE = """
import sys
from pathlib import Path
from backup.databases import save_database
save_database("a", "sqlite", sys.argv[1], Path(sys.argv[2]))
"""


def large_database(path: Path, journal_mode: str) -> Path:
    """Larger than any step of a copy."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode={journal_mode}")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("CREATE TABLE filling (bytes BLOB)")
        connection.execute("CREATE TABLE pairs (number INTEGER)")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO filling VALUES (?)", ([os.urandom(1 << 20)] for _ in range(MEGABYTES)))
        connection.execute("COMMIT")
    return path


def pairs(path: Path) -> int:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
        return int(connection.execute("SELECT count(*) FROM pairs").fetchone()[0])


@contextmanager
def steady_writing(path: Path) -> Iterator[None]:
    """Another process commits as often as it can; it must still do so at the end."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, path])
    try:
        wait_until(lambda: pairs(path) > 0, "the first commit")
        yield
        assert writer.poll() is None, "the writer was locked out"
    finally:
        writer.kill()
        writer.wait()


@pytest.mark.parametrize("journal_mode", ["WAL", "DELETE"])
def test_a_copy_ends_while_another_process_never_stops_writing(tmp_path: Path, journal_mode: str) -> None:
    live, copy = large_database(tmp_path / "live.db", journal_mode), tmp_path / "copy.sqlite"
    with steady_writing(live):
        subprocess.run([sys.executable, "-c", SAVE, live, copy], check=True, cwd=ROOT, timeout=SECONDS)
        copied = pairs(copy)
        wait_until(lambda: pairs(live) > copied, "the writer goes on")
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert copied % 2 == 0, "the copy has half of a transaction"
    assert list(tmp_path.glob("copy.sqlite-*")) == []


def test_a_database_that_stays_locked_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "WAIT_SECONDS", 0.2)
    live = tmp_path / "live.db"
    with closing(sqlite3.connect(live, isolation_level=None)) as owner:
        owner.execute("CREATE TABLE pairs (number INTEGER)")
        owner.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        with pytest.raises(SourceUnreadable, match="locked"):
            databases.save_database("a", "sqlite", str(live), tmp_path / "copy.sqlite")
    assert time.monotonic() - began < 10  # noqa: PLR2004  # far from WAIT_SECONDS of the program


@pytest.mark.parametrize("ending", ["-wal", "-shm", "-journal"])
def test_what_a_killed_writer_left_beside_the_old_database_never_meets_the_new_one(tmp_path: Path, ending: str) -> None:
    live, saved = tmp_path / "live.db", tmp_path / "saved.sqlite"
    for path in (live, saved, Path(f"{live}{ending}")):
        path.write_text(path.name)
    with ExitStack() as undo:
        _swap_files({saved: live}, tmp_path / "none", tmp_path / "mlruns", ".before-now", undo)
        undo.pop_all()
    left = {path.name: path.read_text() for path in tmp_path.glob("live.db*")}
    assert left == {
        "live.db": "saved.sqlite",
        "live.db.before-now": "live.db",
        f"live.db.before-now{ending}": f"live.db{ending}",
    }

"""Copies of an SQLite file (by its online backup) and of a PostgreSQL database (by pg_dump, pg_restore and psql)."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import unquote

from backup.errors import SourceUnreadable, TargetUnfit
from stepkit.secret_urls import hide_secrets

SQLITE_ENDINGS = ("", "-wal", "-shm", "-journal")
"""Endings of an SQLite file and of those next to it: an old one of these must never meet a new file."""

WAIT_SECONDS = 30.0
"""How long another process may keep a file locked before it counts as unreadable."""

TABLES_SQL = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table'",
    "postgresql": "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'",
}
EXPECTED_TABLE = {"mlflow": "runs", "predictions": "predictions"}
"""A table that tells a database from others, by the name under which it is saved."""

OTHER_CONNECTIONS_SQL = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
PASSWORD = re.compile(r"^(postgresql://[^:/?#@]*):([^/?#]*)(?=@)")
PSQL = ["psql", "-wXqtA", "--field-separator=\t", "-vON_ERROR_STOP=1"]
"""Without a prompt for a password, the user's settings, notes, headings and padding."""

RESTORE_SCRIPT = r"""{ echo 'BEGIN; SET client_min_messages = warning; DROP SCHEMA public CASCADE;
CREATE SCHEMA public AUTHORIZATION pg_database_owner; GRANT USAGE ON SCHEMA public TO PUBLIC;'
pg_restore --file=- "$FILE" && echo "COMMIT; SELECT 'restored';"; } | "$@" """


def save_database(name: str, kind: str, address: str, target: Path) -> list[str]:
    """Copy a database as of one moment; return its tables. Raise SourceUnreadable if it is not the one of `name`."""
    if kind == "sqlite":
        _save_sqlite(Path(address), target)
    else:
        _run_program(["pg_dump", "--no-password", "--format=custom", f"--file={target}", address], address)
    tables = [table for (table,) in query(kind, str(target) if kind == "sqlite" else address, TABLES_SQL[kind])]
    missing = (
        "tables"
        if not tables
        else f"table {EXPECTED_TABLE[name]}"
        if EXPECTED_TABLE.get(name, tables[0]) not in tables
        else ""
    )
    if missing:
        raise SourceUnreadable(
            f"{name}: {hide_secrets(address)} has no {missing}. Name another database: BACKUP_DATABASES."
        )
    return tables


def _save_sqlite(source: Path, target: Path) -> None:
    """Copy an SQLite file in one transaction that reads: in steps, the copy would restart after each commit.

    In WAL mode no writer waits for it. In the other modes a writer waits until the pages are copied, about a second for
    200 MB, so they are brought to the disk afterwards.
    """
    try:
        with closing(_open_read_only(source)) as live, closing(sqlite3.connect(target)) as copy:
            copy.execute("PRAGMA synchronous=OFF")
            live.execute("BEGIN")
            live.execute("SELECT count(*) FROM sqlite_master").fetchone()  # takes the lock, or raises
            live.backup(copy)
            live.rollback()
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, whatever the source has
    except sqlite3.Error as error:
        raise SourceUnreadable(f"{source} cannot be copied: {error}. Is it a database, and not locked?") from error
    with target.open("r+b") as file:
        os.fsync(file.fileno())


def restore_postgres(source: Path, address: str) -> None:
    """Replace all that a database holds by a dump, in one transaction; raise SourceUnreadable if that fails."""
    _run_program(["sh", "-c", RESTORE_SCRIPT, "restore", *PSQL, address], address, "restored", FILE=str(source))


def query(kind: str, address: str, statement: str) -> list[list[str]]:
    """Return the rows of a statement, as text."""
    if kind != "sqlite":
        return [
            line.split("\t") for line in _run_program([*PSQL, "--command", statement, address], address).splitlines()
        ]
    with closing(_open_read_only(Path(address))) as connection:
        return [["" if value is None else str(value) for value in row] for row in connection.execute(statement)]


def verify_ready(kind: str, address: str, replace: bool) -> None:
    """Raise TargetUnfit for a database that is in use, and for one with tables unless `replace` is set."""
    if kind == "sqlite":
        user, has_data = _find_user(Path(address)), Path(address).exists()
    else:
        others, has_data = (
            int(query(kind, address, OTHER_CONNECTIONS_SQL)[0][0]),
            bool(query(kind, address, TABLES_SQL[kind])),
        )
        user = f"{others} other connections" if others else ""
    if user:
        raise TargetUnfit(
            f"{hide_secrets(address)} is in use by {user}. Stop what uses it first: server, scorer, pipeline; in the stack: "
            "docker compose -f docker/compose.yaml stop"
        )
    if has_data and not replace:
        raise TargetUnfit(f"{hide_secrets(address)} holds data already. Type replace=yes to restore over it.")


def _run_program(command: list[str], address: str, expected: str = "", **variables: str) -> str:
    """Return the output of a program of PostgreSQL's, with `expected` in it; raise SourceUnreadable if it fails."""
    if password := PASSWORD.search(address):  # anyone on this machine can read a command line
        variables["PGPASSWORD"] = unquote(password[2])
        command = [PASSWORD.sub(r"\1", word) for word in command]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables})
    except FileNotFoundError as error:
        raise SourceUnreadable(f"{command[0]} is not on this machine. Install PostgreSQL's client programs.") from error
    if ended.returncode or "error:" in ended.stderr or expected not in ended.stdout:
        raise SourceUnreadable(
            f"{hide_secrets(address)}: {' '.join(ended.stderr.split())[:400]}. See that it runs, that PGPASSWORD is its "
            "password, and that PostgreSQL's client programs are installed and as new as the server."
        )
    return ended.stdout


def _open_read_only(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=WAIT_SECONDS)


def _find_user(path: Path) -> str:
    """Return which process has a file open, where the system shows it (Linux)."""
    wanted = {f"{path.resolve()}{ending}" for ending in SQLITE_ENDINGS}
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if str(entry.readlink()) in wanted:
                return f"process {entry.parts[2]}"
    return ""

"""Copies of SQLite files (online backup) and of PostgreSQL databases (pg_dump, pg_restore and psql)."""

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
"""Endings of an SQLite file and its companions. An old companion would corrupt a new file."""

WAIT_SECONDS = 30.0
"""Longest wait for a locked file, before the file counts as unreadable."""

TABLES_SQL = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table'",
    "postgresql": "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'",
}
EXPECTED_TABLE = {"mlflow": "runs", "predictions": "predictions"}
"""Table that identifies a database, by the name of the database in a backup."""

OTHER_CONNECTIONS_SQL = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
PASSWORD = re.compile(r"^(postgresql://[^:/?#@]*):([^/?#]*)(?=@)")
PSQL = ["psql", "-wXqtA", "--field-separator=\t", "-vON_ERROR_STOP=1"]
"""Options: no password prompt, user settings, notices, headings or padding."""

RESTORE_SCRIPT = r"""{ echo 'BEGIN; SET client_min_messages = warning; DROP SCHEMA public CASCADE;
CREATE SCHEMA public AUTHORIZATION pg_database_owner; GRANT USAGE ON SCHEMA public TO PUBLIC;'
pg_restore --file=- "$FILE" && echo "COMMIT; SELECT 'restored';"; } | "$@" """


def save_database(name: str, kind: str, address: str, target: Path) -> list[str]:
    """Copy one consistent state of a database, and return its tables.

    Raises:
        SourceUnreadable: the database cannot be read, or lacks the table expected for `name`.
    """
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
        raise SourceUnreadable(f"{name}: {hide_secrets(address)} has no {missing}. Correct BACKUP_DATABASES.")
    return tables


def _save_sqlite(source: Path, target: Path) -> None:
    """Copy an SQLite file in one read transaction, because a copy in steps would restart after each commit.

    In WAL mode, writers do not wait. In other modes they wait for the copy, about a second for 200 MB, so fsync comes
    afterwards.
    """
    try:
        with closing(_open_read_only(source)) as live, closing(sqlite3.connect(target)) as copy:
            copy.execute("PRAGMA synchronous=OFF")
            live.execute("BEGIN")
            live.execute("SELECT count(*) FROM sqlite_master").fetchone()  # takes the lock or raises an error
            live.backup(copy)
            live.rollback()
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, even if the source uses a WAL
    except sqlite3.Error as error:
        raise SourceUnreadable(
            f"{source}: cannot be copied ({error}). Check that it is a database and not locked."
        ) from error
    with target.open("r+b") as file:
        os.fsync(file.fileno())


def restore_postgres(source: Path, address: str) -> None:
    """Replace the content of a database by a dump, in one transaction. Raise SourceUnreadable if that fails."""
    _run_program(["sh", "-c", RESTORE_SCRIPT, "restore", *PSQL, address], address, "restored", FILE=str(source))


def query(kind: str, address: str, statement: str) -> list[list[str]]:
    """Return the rows of an SQL statement as text."""
    if kind != "sqlite":
        return [
            line.split("\t") for line in _run_program([*PSQL, "--command", statement, address], address).splitlines()
        ]
    with closing(_open_read_only(Path(address))) as connection:
        return [["" if value is None else str(value) for value in row] for row in connection.execute(statement)]


def verify_ready(kind: str, address: str, replace: bool) -> None:
    """Raise TargetUnfit if a database is in use, or if it has tables and `replace` is not set."""
    if kind == "sqlite":
        user, has_data = _find_user(Path(address)), Path(address).exists()
    else:
        connections, has_data = (
            int(query(kind, address, OTHER_CONNECTIONS_SQL)[0][0]),
            bool(query(kind, address, TABLES_SQL[kind])),
        )
        user = f"{connections} other connection{'s' if connections > 1 else ''}" if connections else ""
    if user:
        raise TargetUnfit(
            f"{hide_secrets(address)}: in use by {user}. Stop server, scorer and pipeline first; in the stack: "
            "docker compose -f docker/compose.yaml stop"
        )
    if has_data and not replace:
        raise TargetUnfit(f"{hide_secrets(address)}: not empty. To replace its data: replace=yes")


def _run_program(command: list[str], address: str, expected: str = "", **variables: str) -> str:
    """Return the output of a PostgreSQL program. Raise SourceUnreadable if it fails or does not print `expected`."""
    if password := PASSWORD.search(address):  # anyone on this machine can read a command line
        variables["PGPASSWORD"] = unquote(password[2])
        command = [PASSWORD.sub(r"\1", word) for word in command]
    try:
        result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables})
    except FileNotFoundError as error:
        raise SourceUnreadable(f"{command[0]}: not installed. Install PostgreSQL's client programs.") from error
    if result.returncode or "error:" in result.stderr or expected not in result.stdout:
        raise SourceUnreadable(
            f"{hide_secrets(address)}: {' '.join(result.stderr.split())[:400]}. Check that the server runs, "
            "that PGPASSWORD is correct, and that PostgreSQL's client programs are installed and as new as the server."
        )
    return result.stdout


def _open_read_only(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=WAIT_SECONDS)


def _find_user(path: Path) -> str:
    """Return the process that has a file open (Linux only), or ""."""
    names = {f"{path.resolve()}{ending}" for ending in SQLITE_ENDINGS}
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if str(entry.readlink()) in names:
                return f"process {entry.parts[2]}"
    return ""

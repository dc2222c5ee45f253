"""Connections to the database of the prediction log, SQLite or PostgreSQL: each finished commit is on disk."""

from __future__ import annotations

import os
import random
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, SQLAlchemyError

from prediction_log.errors import LogDamaged, LogUnavailable, LogUnfit
from stepkit.secret_urls import hide_secrets, hide_secrets_in_text

ROOT = Path(__file__).resolve().parents[1]
BUSY_SECONDS, MAX_BUSY_SECONDS = 5.0, 1e6
"""How long SQLite waits for another process's transaction: the default, and the limit for a URL's `timeout`."""

POSTGRES_OPTIONS = {
    "connect_timeout": 3,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "options": "-c statement_timeout=10s -c lock_timeout=5s -c idle_in_transaction_session_timeout=30s",
}
"""Time limits for writing, so that a hanging database does not block the scorer. Readers drop `options`."""

ENABLE_SYNCHRONOUS_COMMIT = (
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
)
DAMAGE_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""SQLite's result codes for a file that is not a database, or whose pages are inconsistent."""

_INVALID_OPTION = re.compile(r"\b(invalid|bad)\b.*\b(value|option|port)\b|could not parse")
"""Messages of libpq for an option with a wrong value, before it connects."""

_READ_ONLY = re.compile(r"read.only\s*=\s*(on|true|yes|1)|^(read-only|standby)$")
URL_EXAMPLES = "For example sqlite:///predictions.db or postgresql://user:password@host/database."


def open_engine(url: str, base: Path = ROOT, reads: bool = False) -> Engine:
    """Return an engine for a log, without connecting.

    Args:
        url: sqlite:///FILE (relative to `base`), or postgresql://...
        base: folder of a relative path; by default the repository.
        reads: True for a reader: statements may run long, and take no write lock.

    Raises:
        LogUnfit: an unsupported database or option, or a missing folder.
    """
    try:
        parsed_url = make_url(url)
    except ArgumentError as error:
        raise LogUnfit(f"prediction log URL '{hide_secrets(url)}': not a database URL. {URL_EXAMPLES}") from error
    kind = parsed_url.get_backend_name()
    if kind == "sqlite":
        return _create_sqlite_engine(_resolve_file_url(parsed_url, base, reads), _parse_timeout(parsed_url), reads)
    if kind == "postgresql":
        return _create_postgres_engine(parsed_url, reads)
    raise LogUnfit(
        f"prediction log URL {format_url(parsed_url)}: unsupported database (found {kind}, expected sqlite or "
        f"postgresql). {URL_EXAMPLES}"
    )


def to_text_with_password(url: URL) -> str:
    """Return a URL with its password; never log or print the result."""
    return url.render_as_string(hide_password=False)


def format_url(url: URL) -> str:
    """Return a URL without its secrets, to print and store."""
    return hide_secrets(to_text_with_password(url))


def find_file(engine: Engine) -> Path | None:
    """Return the file of an SQLite log, None for a server."""
    return Path(str(engine.url.database)) if engine.dialect.name == "sqlite" else None


@contextmanager
def open_existing(url: str, reads: bool = False) -> Iterator[Engine]:
    """Yield an engine for an existing log, and close the engine at the end.

    Raises:
        LogUnfit: as open_engine, or the SQLite file is missing; reading must not create an empty log.
    """
    engine = open_engine(url, reads=reads)
    try:
        file = find_file(engine)
        if file and not file.is_file():
            raise LogUnfit(
                f"no prediction log at {file}. Start the scorer once to create the log, or correct PREDICTION_LOG_URL."
            )
        yield engine
    finally:
        engine.dispose()


@contextmanager
def translate_errors(url: URL) -> Iterator[None]:
    """Raise errors of the database as errors of the log; see to_log_error."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise to_log_error(url, error) from error


def to_log_error(url: URL, error: Exception) -> LogUnavailable | LogUnfit | ValueError:
    """Return LogUnfit if waiting cannot help, ValueError if a row is faulty, else LogUnavailable."""
    reason = hide_secrets_in_text(format_reason(error), to_text_with_password(url))[:300]
    if not isinstance(error, SQLAlchemyError | sqlite3.Error) or isinstance(error, IntegrityError | DataError):
        return ValueError(f"prediction cannot be stored: {reason}")
    if get_sqlite_code(error) in DAMAGE_CODES:
        return LogDamaged(
            f"prediction log {url.database}: not an SQLite database, or damaged ({reason}). "
            "Move the file to another folder, or choose another file in PREDICTION_LOG_URL."
        )
    is_from_libpq = isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", "") is None
    if is_from_libpq and _INVALID_OPTION.search(reason):
        return LogUnfit(f"prediction log URL: PostgreSQL rejects an option ({reason}). Correct the option.")
    return LogUnavailable(
        f"prediction log {format_url(url)}: cannot be used ({reason}). "
        "Check that its database runs, has disk space and grants access; the scorer need not be restarted."
    )


def format_reason(error: Exception) -> str:
    """Return the cause in one line, without values: no statement, and no DETAIL of PostgreSQL, which repeats rows."""
    cause = (error.orig if isinstance(error, DBAPIError) else None) or error
    primary = getattr(getattr(cause, "diag", None), "message_primary", None)
    return " ".join(str(primary or cause).split()) or type(cause).__name__


def get_sqlite_code(error: BaseException | None) -> int:
    """Return the primary SQLite result code behind an error, 0 if there is none."""
    while error is not None and not hasattr(error, "sqlite_errorcode"):
        error = error.__cause__
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_busy(error: BaseException) -> bool:
    """Return whether another process has locked an SQLite log, so that waiting helps."""
    return get_sqlite_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _resolve_file_url(url: URL, base: Path, reads: bool) -> URL:
    if url.drivername not in ("sqlite", "sqlite+pysqlite") or url.host or url.username:
        raise LogUnfit(f"prediction log URL: an SQLite URL has no driver, host or user. {URL_EXAMPLES}")
    if url.database in (None, "", ":memory:"):
        raise LogUnfit(
            f"prediction log URL {format_url(url)}: a log in memory would be lost. Name a file. {URL_EXAMPLES}"
        )
    file = (base / str(url.database)).resolve()
    if not file.parent.is_dir():
        raise LogUnfit(f"prediction log {file}: folder does not exist. Create the folder, or choose another file.")
    if file.exists() and not file.is_file():
        raise LogUnfit(f"prediction log {file}: not a regular file. {URL_EXAMPLES}")
    # SQLite also creates files next to the database.
    if not reads and not all(os.access(path, os.W_OK) for path in (file, file.parent) if path.exists()):
        raise LogUnfit(f"prediction log {file}: file or folder not writable. Grant access, or choose another file.")
    return url.set(drivername="sqlite", database=str(file), query={})


def _parse_timeout(url: URL) -> float:
    """Return how many seconds SQLite waits for a lock; reject other options, which SQLAlchemy would ignore."""
    options = {"timeout": str(BUSY_SECONDS), **url.query}
    with suppress(ValueError):
        seconds = float(str(options["timeout"]))
        if len(options) == 1 and 0.0 <= seconds < MAX_BUSY_SECONDS:
            return seconds
    raise LogUnfit(
        f"prediction log URL: wrong option (found {', '.join(sorted(url.query))}, expected only timeout=SECONDS, "
        f"below {MAX_BUSY_SECONDS:,.0f}). Correct or remove the option."
    )


def _create_sqlite_engine(url: URL, seconds: float, reads: bool) -> Engine:
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": seconds}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # Else the driver adds its own BEGIN and COMMIT, also around DDL.
        if reads:
            return
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA busy_timeout=0")  # _begin_immediate waits instead.

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if reads:
            connection.exec_driver_sql("BEGIN")
        else:
            _begin_immediate(connection, seconds)

    return engine


def enable_wal(engine: Engine) -> None:
    """Switch an SQLite log to WAL mode, which its file stores; separate from connecting, which must not write."""
    if engine.dialect.name == "sqlite":
        with translate_errors(engine.url), closing(engine.raw_connection()) as connection:
            connection.cursor().execute("PRAGMA journal_mode=WAL")


def _begin_immediate(connection: Connection, seconds: float) -> None:
    """Begin a transaction with the write lock, since SQLite does not wait for a lock that is needed later.

    SQLite's own busy handler sleeps up to 100 ms at a time, and so loses against processes that retry more often.
    """
    driver: Any = connection.connection.driver_connection
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            driver.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                break
            time.sleep(random.uniform(0.0005, 0.002))  # about as long as a commit
    connection.exec_driver_sql("BEGIN IMMEDIATE")  # raises the cause as an error of SQLAlchemy


def _create_postgres_engine(url: URL, reads: bool) -> Engine:
    try:
        _verify_options(url, reads)
        # Options in the URL win.
        left_out = {*url.query, "options"} if reads else {*url.query}
        options = {key: value for key, value in POSTGRES_OPTIONS.items() if key not in left_out}
        engine_url = url.set(drivername="postgresql+psycopg")
        engine = create_engine(engine_url, connect_args=options, pool_pre_ping=reads, hide_parameters=True)
    except ArgumentError as error:
        raise LogUnfit(f"prediction log URL: {error}. {URL_EXAMPLES}") from error
    except ModuleNotFoundError as error:
        raise LogUnfit(
            f"prediction log {format_url(url)}: PostgreSQL needs psycopg ({error}). Run: pip install 'psycopg[binary]'"
        ) from error

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: Any) -> None:
        # With synchronous_commit off, a commit returns before it is on disk. Stricter settings stay.
        with connection.cursor() as cursor:
            cursor.execute(ENABLE_SYNCHRONOUS_COMMIT)
        connection.commit()

    return engine


def _verify_options(url: URL, reads: bool) -> None:
    """Raise LogUnfit for an option that libpq does not know, or that forbids writing."""
    from psycopg import ProgrammingError, conninfo

    options = {name: values[0] for name, values in url.normalized_query.items()}
    try:
        conninfo.make_conninfo(**options)
    except ProgrammingError as error:
        raise LogUnfit(f"prediction log URL: {format_reason(error)}. Correct or remove the option.") from error
    for name in ("options", "target_session_attrs"):
        if not reads and _READ_ONLY.search(options.get(name, "")):
            raise LogUnfit(f"prediction log URL: the option {name} forbids writing. Remove the option.")

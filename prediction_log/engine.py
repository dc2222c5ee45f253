"""Open the database of the prediction log: SQLite or PostgreSQL, such that a commit that returned is on the disk."""

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
"""How long SQLite waits for another process's transaction; the longest time that an address may name."""

POSTGRES_OPTIONS = {
    "connect_timeout": 3,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "options": "-c statement_timeout=10s -c lock_timeout=5s -c idle_in_transaction_session_timeout=30s",
}
"""A database that hangs must not hang the answers: each wait has an end. Reading sets no limit of its own."""

ENABLE_SYNCHRONOUS_COMMIT = (
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
)
DAMAGE_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""SQLite's codes for a file that is not a database, or whose pages do not fit together."""

_INVALID_OPTION = re.compile(r"\b(invalid|bad)\b.*\b(value|option|port)\b|could not parse")
"""How libpq rejects a value of an option before it asks the server."""

_READ_ONLY = re.compile(r"read.only\s*=\s*(on|true|yes|1)|^(read-only|standby)$")
URL_EXAMPLES = "For example sqlite:///predictions.db or postgresql://user:password@host/database."


def open_engine(url: str, base: Path = ROOT, reads: bool = False) -> Engine:
    """Return an engine for a log; nothing is connected yet.

    Args:
        url: sqlite:///FILE (relative: to `base`), or postgresql://...
        reads: only reads: long statements are fine, no lock for writing is taken.

    Raises:
        LogUnfit: no such kind of database, or a folder that is not there.
    """
    try:
        address = make_url(url)
    except ArgumentError as error:
        raise LogUnfit(f"'{hide_secrets(url)}' is no address of a prediction log. {URL_EXAMPLES}") from error
    kind = address.get_backend_name()
    if kind == "sqlite":
        return _create_sqlite_engine(_resolve_file_url(address, base, reads), _parse_timeout(address), reads)
    if kind == "postgresql":
        return _create_postgres_engine(address, reads)
    raise LogUnfit(f"a prediction log cannot be kept in {kind}: {format_url(address)}. {URL_EXAMPLES}")


def to_text_with_password(url: URL) -> str:
    """Return an address with its secrets, never to be shown."""
    return url.render_as_string(hide_password=False)


def format_url(url: URL) -> str:
    """Return an address as it may be printed and stored."""
    return hide_secrets(to_text_with_password(url))


def find_file(engine: Engine) -> Path | None:
    """The file of an SQLite log, None for a server."""
    return Path(str(engine.url.database)) if engine.dialect.name == "sqlite" else None


@contextmanager
def open_existing(url: str, reads: bool = False) -> Iterator[Engine]:
    """Yield an engine for a log that is there already, and close it at the end.

    Raises:
        LogUnfit: as open_engine, or there is no SQLite file: a look at a log must not make an empty one.
    """
    engine = open_engine(url, reads=reads)
    try:
        file = find_file(engine)
        if file and not file.is_file():
            raise LogUnfit(
                f"there is no prediction log at {file}. A server that answered makes one; see PREDICTION_LOG_URL."
            )
        yield engine
    finally:
        engine.dispose()


@contextmanager
def translate_errors(url: URL) -> Iterator[None]:
    """Turn what a database raises into LogUnavailable, one line that names the log without its password."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise to_log_error(url, error) from error


def to_log_error(url: URL, error: Exception) -> LogUnavailable | LogUnfit | ValueError:
    """Return the error of the log that fits: LogUnfit where waiting cannot help, ValueError for a fault of a row."""
    reason = hide_secrets_in_text(format_reason(error), to_text_with_password(url))[:300]
    if not isinstance(error, SQLAlchemyError | sqlite3.Error) or isinstance(error, IntegrityError | DataError):
        return ValueError(f"cannot be put on record: {reason}")
    if get_sqlite_code(error) in DAMAGE_CODES:
        return LogDamaged(
            f"{url.database}: not an SQLite database, or a damaged one ({reason}). Move it away, or name another file."
        )
    is_of_libpq = isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", "") is None
    if is_of_libpq and _INVALID_OPTION.search(reason):
        return LogUnfit(f"the address of the prediction log has an option that PostgreSQL rejects: {reason}.")
    return LogUnavailable(
        f"the prediction log {format_url(url)} cannot be used: {reason}. "
        "See that its database runs and has room and rights; nothing needs to be restarted."
    )


def format_reason(error: Exception) -> str:
    """Return the cause in one line, without the statement, its values, and PostgreSQL's DETAIL, which repeats rows."""
    cause = (error.orig if isinstance(error, DBAPIError) else None) or error
    primary = getattr(getattr(cause, "diag", None), "message_primary", None)
    return " ".join(str(primary or cause).split()) or type(cause).__name__


def get_sqlite_code(error: BaseException | None) -> int:
    """Return the primary result code of SQLite behind an error, 0 for none."""
    while error is not None and not hasattr(error, "sqlite_errorcode"):
        error = error.__cause__
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_busy(error: BaseException) -> bool:
    """Return whether another process has the lock of an SQLite log, so that waiting helps."""
    return get_sqlite_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _resolve_file_url(address: URL, base: Path, reads: bool) -> URL:
    if address.drivername not in ("sqlite", "sqlite+pysqlite") or address.host or address.username:
        raise LogUnfit(f"not the address of an SQLite file: a driver, host or user is named. {URL_EXAMPLES}")
    if address.database in (None, "", ":memory:"):
        raise LogUnfit(f"a prediction log in memory ({format_url(address)}) would be lost. Name a file: {URL_EXAMPLES}")
    file = (base / str(address.database)).resolve()
    if not file.parent.is_dir():
        raise LogUnfit(f"the folder of the prediction log {file} is not there. Make it, or name another file.")
    if file.exists() and not file.is_file():
        raise LogUnfit(f"{file} cannot be the prediction log: it is not a file. {URL_EXAMPLES}")
    # SQLite writes files beside its own
    if not reads and not all(os.access(path, os.W_OK) for path in (file, file.parent) if path.exists()):
        raise LogUnfit(f"the prediction log {file} or its folder is not writable. Permit it, or name another file.")
    return address.set(drivername="sqlite", database=str(file), query={})


def _parse_timeout(address: URL) -> float:
    """Return how long SQLite waits for its turn. SQLAlchemy would drop any other option, also `mode=ro`."""
    options = {"timeout": str(BUSY_SECONDS), **address.query}
    with suppress(ValueError):
        seconds = float(str(options["timeout"]))
        if len(options) == 1 and 0.0 <= seconds < MAX_BUSY_SECONDS:
            return seconds
    raise LogUnfit(
        f"the address of the prediction log: wrong option (found {', '.join(sorted(address.query))}, expected only "
        f"timeout=SECONDS: a log is opened for writing). Correct it, or remove it."
    )


def _create_sqlite_engine(address: URL, seconds: float, reads: bool) -> Engine:
    engine = create_engine(address, connect_args={"check_same_thread": False, "timeout": seconds}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _set_up(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # else the driver begins and commits by rules of its own, also around DDL
        if reads:
            return
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA busy_timeout=0")  # from here on it is _take_turn that waits

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if reads:
            connection.exec_driver_sql("BEGIN")
        else:
            _begin_immediate(connection, seconds)

    return engine


def enable_wal(engine: Engine) -> None:
    """Turn an SQLite log into WAL mode, which its file keeps; apart from connecting, since it changes the file."""
    if engine.dialect.name == "sqlite":
        with translate_errors(engine.url), closing(engine.raw_connection()) as connection:
            connection.cursor().execute("PRAGMA journal_mode=WAL")


def _begin_immediate(connection: Connection, seconds: float) -> None:
    """Begin a transaction with the lock for writing: one that takes it later could not wait for it.

    SQLite's own waiting sleeps up to 100 ms at a time, and loses its turn to whoever asks more often meanwhile.
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
            time.sleep(random.uniform(0.0005, 0.002))  # a commit takes about as long
    connection.exec_driver_sql("BEGIN IMMEDIATE")  # raises what is the matter, as SQLAlchemy words it


def _create_postgres_engine(address: URL, reads: bool) -> Engine:
    try:
        _verify_options(address, reads)
        # what the person wrote into the address wins
        left_out = {*address.query, "options"} if reads else {*address.query}
        options = {key: value for key, value in POSTGRES_OPTIONS.items() if key not in left_out}
        full = address.set(drivername="postgresql+psycopg")
        engine = create_engine(full, connect_args=options, pool_pre_ping=reads, hide_parameters=True)
    except ArgumentError as error:
        raise LogUnfit(f"the address of the prediction log: {error}. {URL_EXAMPLES}") from error
    except ModuleNotFoundError as error:
        raise LogUnfit(
            f"a prediction log on PostgreSQL needs psycopg ({error}). Type: pip install 'psycopg[binary]'"
        ) from error

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _: Any) -> None:
        # where the server's own setting is off, a commit returns before it is on the disk; stricter ones stay
        with connection.cursor() as cursor:
            cursor.execute(ENABLE_SYNCHRONOUS_COMMIT)
        connection.commit()

    return engine


def _verify_options(address: URL, reads: bool) -> None:
    """Raise LogUnfit for an option that libpq does not know, or that forbids to write."""
    from psycopg import ProgrammingError, conninfo

    options = {name: values[0] for name, values in address.normalized_query.items()}
    try:
        conninfo.make_conninfo(**options)
    except ProgrammingError as error:
        raise LogUnfit(f"the address of the prediction log: {format_reason(error)}. Remove it.") from error
    for name in ("options", "target_session_attrs"):
        if not reads and _READ_ONLY.search(options.get(name, "")):
            raise LogUnfit(f"the address of the prediction log: the option {name} forbids to write. Remove it.")

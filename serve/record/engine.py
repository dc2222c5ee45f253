"""Open the database of the prediction log: SQLite or PostgreSQL, such that a commit that returned is on the disk."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from serve.record.errors import LogUnavailable, LogUnfit
from stepkit.addresses import shown, shown_in

ROOT = Path(__file__).resolve().parents[2]
BUSY_SECONDS = 5.0
"""How long SQLite waits for another process's transaction."""

TURN_SECONDS = (0.0005, 0.002)
"""How often it is asked whether that has ended; a commit takes about as long."""

POSTGRES = {
    "connect_timeout": 3,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "options": "-c statement_timeout=10s -c lock_timeout=5s -c idle_in_transaction_session_timeout=30s",
}
"""A database that hangs must not hang the answers: each wait has an end. Reading sets no limit of its own."""

DURABLE = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
EXAMPLES = "For example sqlite:///predictions.db or postgresql://user:password@host/database."


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
        raise LogUnfit(f"'{shown(url)}' is no address of a prediction log. {EXAMPLES}") from error
    kind = address.get_backend_name()
    if kind == "sqlite":
        return _sqlite(_file_address(address, base), reads)
    if kind == "postgresql":
        return _postgres(address, reads)
    raise LogUnfit(f"a prediction log cannot be kept in {kind}: {shown_url(address)}. {EXAMPLES}")


def whole(url: URL) -> str:
    """Return an address with its secrets, never to be shown."""
    return url.render_as_string(hide_password=False)


def shown_url(url: URL) -> str:
    """Return an address as it may be printed and stored."""
    return shown(whole(url))


def file_of(engine: Engine) -> Path | None:
    """The file of an SQLite log, None for a server."""
    return Path(str(engine.url.database)) if engine.dialect.name == "sqlite" else None


def expect_file(engine: Engine) -> None:
    """Raise LogUnfit where there is no SQLite file: a look at a log must not make an empty one."""
    file = file_of(engine)
    if file and not file.is_file():
        raise LogUnfit(
            f"there is no prediction log at {file}. A server that answered makes one; see PREDICTION_LOG_URL."
        )


@contextmanager
def failures_of(url: URL, pass_on: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn what SQLAlchemy raises into LogUnavailable, one line that names the log without its password."""
    try:
        yield
    except pass_on:
        raise
    except SQLAlchemyError as error:
        raise unavailable(url, error) from error


def unavailable(url: URL, error: SQLAlchemyError) -> LogUnavailable:
    cause = error.orig if isinstance(error, DBAPIError) else error
    reason = shown_in(" ".join(str(cause).split()), whole(url))[:300] or type(cause).__name__
    return LogUnavailable(
        f"the prediction log {shown_url(url)} cannot be used: {reason}. "
        f"See that its database runs and has room and rights; nothing needs to be started anew."
    )


def _file_address(address: URL, base: Path) -> URL:
    if address.database in (None, "", ":memory:"):
        raise LogUnfit(f"a prediction log in memory ({shown_url(address)}) would be lost. Name a file: {EXAMPLES}")
    file = (base / str(address.database)).resolve()
    if not file.parent.is_dir():
        raise LogUnfit(f"the folder of the prediction log {file} is not there. Make it, or name another file.")
    return address.set(drivername="sqlite", database=str(file))


def _sqlite(address: URL, reads: bool) -> Engine:
    seconds = float(str(address.query.get("timeout", BUSY_SECONDS)))
    engine = create_engine(address, connect_args={"check_same_thread": False, "timeout": seconds})

    @event.listens_for(engine, "connect")
    def _set_up(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # else the driver begins and commits by rules of its own, also around DDL
        if reads:
            return
        for name, value in (("journal_mode", "WAL"), ("synchronous", "FULL"), ("busy_timeout", 0)):
            connection.execute(f"PRAGMA {name}={value}")  # busy_timeout: from here on it is _take_turn that waits

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if reads:
            connection.exec_driver_sql("BEGIN")
        else:
            _take_turn(connection, seconds)

    return engine


def _take_turn(connection: Connection, seconds: float) -> None:
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
            if "locked" not in str(error):
                break
            time.sleep(random.uniform(*TURN_SECONDS))
    connection.exec_driver_sql("BEGIN IMMEDIATE")  # raises what is the matter, as SQLAlchemy words it


def _postgres(address: URL, reads: bool) -> Engine:
    try:
        # what the person wrote into the address wins
        options = {key: value for key, value in POSTGRES.items() if key not in address.query}
        options = {key: value for key, value in options.items() if not (reads and key == "options")}
        engine = create_engine(address.set(drivername="postgresql+psycopg"), connect_args=options, pool_pre_ping=reads)
    except ModuleNotFoundError as error:
        raise LogUnfit(
            f"a prediction log on PostgreSQL needs psycopg ({error}). Type: pip install 'psycopg[binary]'"
        ) from error

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _: Any) -> None:
        # where the server's own setting is off, a commit returns before it is on the disk; stricter ones stay
        with connection.cursor() as cursor:
            cursor.execute(DURABLE)
        connection.commit()

    return engine

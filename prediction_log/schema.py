"""The tables of the prediction log, and how a log of an older schema is brought up to date.

The statements that made each schema version stand in migrations/versions and never change again; the tables below are
what they amount to (a test compares both).
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Column, Connection, DateTime, Engine, Index, Integer, PrimaryKeyConstraint, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from prediction_log.engine import enable_wal, format_url, is_busy, translate_errors
from prediction_log.errors import LogUnavailable, LogUnfit

HEAD = "2"
"""The schema version of this code: the newest file in migrations/versions."""

KNOWN_VERSIONS = ("1", "2")
VERSION_TABLE = "prediction_log_version"
"""Not Alembic's own default: the log may share a database with MLflow, which uses that one."""

MIGRATIONS = Path(__file__).with_name("migrations")
PREPARE_TIMEOUT_SECONDS = 20.0
SCHEMA_LOCK_KEY = 7_305_118
"""Key of the PostgreSQL advisory lock under which a schema is made; any number that nobody else uses."""

metadata = sa.MetaData()

predictions = Table(
    "predictions",
    metadata,
    Column("request_id", Text, nullable=False),
    Column("row", Integer, nullable=False),
    Column("time", DateTime(timezone=True), nullable=False),
    Column("model_name", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("shadow", sa.Boolean, nullable=False),
    Column("features", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=False),
    Column("probability", sa.Float, nullable=False),
    Column("predicted", Integer, nullable=False),
    Column("latency_ms", sa.Float, nullable=False),
    PrimaryKeyConstraint("request_id", "row", "model_version", "shadow", name="predictions_once"),
    Index("predictions_by_time", "time"),
    Index("predictions_by_version", "model_version", "time"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("request_id", Text, nullable=False),
    Column("row", Integer, nullable=False),
    Column("label", Integer, nullable=False),
    Column("time", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("request_id", "row", name="feedback_once"),
    Index("feedback_by_time", "time"),
)


def prepare_tables(engine: Engine) -> None:
    """Make the tables, or bring those of an older version up to date; one process at a time does so.

    Raises:
        LogUnfit: the log was made by newer code.
        LogUnavailable: it cannot be reached or changed.
    """
    end = time.monotonic() + PREPARE_TIMEOUT_SECONDS
    while True:
        try:
            with translate_errors(engine.url):
                return _prepare_once(engine)
        except LogUnavailable as error:
            # SQLite does not wait for its turn while another process turns a new file into WAL mode
            if not is_busy(error) or time.monotonic() > end:
                raise
            time.sleep(0.05)


def verify_schema(engine: Engine) -> None:
    """Raise unless the log is there and of this code's schema: for those who only read.

    Raises:
        LogUnfit: no log at this address, an older one, or a newer one.
        LogUnavailable: it cannot be reached.
    """
    with translate_errors(engine.url), engine.connect() as connection:
        found = _read_version(connection)
    if found is None:
        raise LogUnfit(f"there is no prediction log at {format_url(engine.url)} yet. A server that answered makes one.")
    if found != HEAD:
        raise LogUnfit(
            f"the prediction log at {format_url(engine.url)} has schema {found}, this code reads {HEAD}. "
            f"Start the scorer on it once: that brings it up to date."
        )


def _read_version(connection: Connection) -> str | None:
    """Return the schema version of a log, None where there is no log yet; raise LogUnfit for a newer one."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    if found not in (None, *KNOWN_VERSIONS):
        raise LogUnfit(
            f"the prediction log at {format_url(connection.engine.url)} has schema {found}, "
            f"and this code knows none newer than {HEAD}. Use the newer code that made it, or name another log."
        )
    return found


def _prepare_once(engine: Engine) -> None:
    with engine.connect() as connection:
        tables = metadata.tables.keys() & sa.inspect(connection).get_table_names()
        # asked afterwards: another process may make the log in between
        found = _read_version(connection)
    if tables and found is None:
        raise LogUnfit(
            f"the database {format_url(engine.url)} holds the table {min(tables)} of another program. Name another one."
        )
    enable_wal(engine)
    if found != HEAD:
        with engine.begin() as connection:
            upgrade(connection)


def upgrade(connection: Connection, version: str = HEAD) -> None:
    """Run what is missing up to a version, in the transaction of `connection`.

    It excludes all other processes: by a lock on PostgreSQL, and SQLite's transactions begin with one.
    """
    # Alembic takes a third of a second to import, and a log is nearly always up to date
    from alembic import command
    from alembic.config import Config

    if connection.dialect.name == "postgresql":
        # an index over many rows takes its time, and so does waiting for the process that makes it
        for statement in ("SET LOCAL statement_timeout = 0", "SET LOCAL lock_timeout = 0"):
            connection.execute(text(statement))
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(SCHEMA_LOCK_KEY)))
    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["version_table"] = VERSION_TABLE
    command.upgrade(config, version)

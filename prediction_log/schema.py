"""Tables of the prediction log, and the upgrade of logs with an older schema.

The migrations in migrations/versions never change once released. A test compares their result with the tables below.
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
"""Schema version of this code: the newest file in migrations/versions."""

KNOWN_VERSIONS = ("1", "2")
VERSION_TABLE = "prediction_log_version"
"""Not Alembic's default name, because MLflow uses that one and may share the database."""

MIGRATIONS = Path(__file__).with_name("migrations")
PREPARE_TIMEOUT_SECONDS = 20.0
SCHEMA_LOCK_KEY = 7_305_118
"""Key of the PostgreSQL advisory lock for schema changes: an arbitrary number."""

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


HAS_LABEL = sa.and_(feedback.c.request_id == predictions.c.request_id, feedback.c.row == predictions.c.row)
"""Condition of the join of a prediction with its label."""


def prepare_tables(engine: Engine) -> None:
    """Create or upgrade the tables; processes do so one at a time.

    Raises:
        LogUnfit: the log has a newer schema, or belongs to another program.
        LogUnavailable: the database cannot be reached or changed.
    """
    end = time.monotonic() + PREPARE_TIMEOUT_SECONDS
    while True:
        try:
            with translate_errors(engine.url):
                return _prepare_once(engine)
        except LogUnavailable as error:
            # SQLite does not wait for a lock while another process switches a new file to WAL mode.
            if not is_busy(error) or time.monotonic() > end:
                raise
            time.sleep(0.05)


def verify_schema(engine: Engine) -> None:
    """Raise unless the log exists and has this code's schema, as a reader needs.

    Raises:
        LogUnfit: no log, or one with an older or newer schema.
        LogUnavailable: the database cannot be reached.
    """
    with translate_errors(engine.url), engine.connect() as connection:
        version = _read_version(connection)
    if version is None:
        raise LogUnfit(f"no prediction log at {format_url(engine.url)}. Start the scorer once to create the log.")
    if version != HEAD:
        raise LogUnfit(
            f"prediction log {format_url(engine.url)}: old schema (found {version}, expected {HEAD}). "
            "Start the scorer once to upgrade the log."
        )


def _read_version(connection: Connection) -> str | None:
    """Return the schema version of a log, None without a log; raise LogUnfit for a newer version."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    version: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    if version not in (None, *KNOWN_VERSIONS):
        raise LogUnfit(
            f"prediction log {format_url(connection.engine.url)}: schema too new (found {version}, expected at most "
            f"{HEAD}). Update this code, or choose another log in PREDICTION_LOG_URL."
        )
    return version


def _prepare_once(engine: Engine) -> None:
    with engine.connect() as connection:
        tables = metadata.tables.keys() & sa.inspect(connection).get_table_names()
        # Read after the tables, because another process may create the log in between.
        version = _read_version(connection)
    if tables and version is None:
        raise LogUnfit(
            f"database {format_url(engine.url)}: table {min(tables)} belongs to another program. "
            "Choose another database in PREDICTION_LOG_URL."
        )
    enable_wal(engine)
    if version != HEAD:
        with engine.begin() as connection:
            upgrade(connection)


def upgrade(connection: Connection, version: str = HEAD) -> None:
    """Run the missing migrations up to `version`, in the transaction of `connection`.

    Other processes wait: for an advisory lock on PostgreSQL, for the write lock of the transaction on SQLite.
    """
    # Imported here, because Alembic takes a third of a second to import and most logs are up to date.
    from alembic import command
    from alembic.config import Config

    if connection.dialect.name == "postgresql":
        # To index many rows takes long, and so does waiting for the process that does it.
        for statement in ("SET LOCAL statement_timeout = 0", "SET LOCAL lock_timeout = 0"):
            connection.execute(text(statement))
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(SCHEMA_LOCK_KEY)))
    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["version_table"] = VERSION_TABLE
    command.upgrade(config, version)

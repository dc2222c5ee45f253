"""Journal of the delivered messages and their addresses, kept in a database across restarts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import Column, Connection, DateTime, Engine, Integer, MetaData, String, Table, Text, select
from sqlalchemy.exc import SQLAlchemyError

from drift.alerts.dedup import Event, SentMessage
from prediction_log.engine import format_reason, format_url, open_engine, to_text_with_password
from prediction_log.errors import LogUnfit
from stepkit.errors import StepError
from stepkit.secret_urls import hide_secrets_in_text

JOURNAL_VARIABLE = "DRIFT_ALERTS_JOURNAL"
DEFAULT_URL = "sqlite:///alerts.db"

_SENT = Table(
    "told",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("at", DateTime, nullable=False, comment="UTC"),
    Column("topic", String(200), nullable=False, index=True),
    Column("state", String(10), nullable=False),
    Column("level", Integer, nullable=False),
    Column("key", String(500), nullable=False),
    Column("until", DateTime, nullable=False, comment="UTC"),
    Column("address", String(200), nullable=False, comment="a digest: addresses hold secrets"),
    Column("title", Text, nullable=False),
    Column("body", Text, nullable=False),
)


class JournalUnusable(StepError):
    """The database of the sent messages cannot be used."""


class Journal:
    """Messages that were delivered."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def list_messages(self, topic: str, address: str) -> list[SentMessage]:
        """Return the messages about a topic that an address received, oldest first."""
        query = select(_SENT).where(_SENT.c.topic == topic, _SENT.c.address == address).order_by(_SENT.c.id)
        with _open_transaction(self._engine) as connection:
            rows = connection.execute(query).all()
        return [
            SentMessage(row.state, row.key, row.until.replace(tzinfo=UTC), row.at.replace(tzinfo=UTC), row.level)
            for row in rows
        ]

    def record_message(self, event: Event, address: str, now: datetime) -> None:
        """Record that an event was delivered to an address."""
        names = ("topic", "state", "level", "key", "title", "body")
        values = {"at": _to_naive_utc(now), "until": _to_naive_utc(event.until), "address": address}
        with _open_transaction(self._engine) as connection:
            connection.execute(_SENT.insert().values(**values, **{name: getattr(event, name) for name in names}))


@contextmanager
def open_journal(url: str) -> Iterator[Journal]:
    """Open the journal, and create its table if it is missing.

    Raises:
        JournalUnusable: the URL is invalid, or the database cannot be reached or written.
    """
    try:
        engine = open_engine(url)
    except LogUnfit as error:
        raise JournalUnusable(f"{JOURNAL_VARIABLE}: {error}") from error
    try:
        with _open_transaction(engine) as connection:
            _SENT.metadata.create_all(connection)
        yield Journal(engine)
    finally:
        engine.dispose()


@contextmanager
def _open_transaction(engine: Engine) -> Iterator[Connection]:
    """Open a transaction; an error becomes one message, without the password in the URL."""
    try:
        with engine.begin() as connection:
            yield connection
    except SQLAlchemyError as error:
        reason = hide_secrets_in_text(format_reason(error), to_text_with_password(engine.url))
        raise JournalUnusable(
            f"{JOURNAL_VARIABLE}: cannot use {format_url(engine.url)} ({reason}). Set another database URL."
        ) from error


def _to_naive_utc(moment: datetime) -> datetime:
    # SQLite stores no time zone.
    return moment.astimezone(UTC).replace(tzinfo=None)

"""Answers on record: the recorded prediction of one row of one request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Engine, Text, cast, select

from prediction_log.engine import translate_errors
from prediction_log.rows import Features, is_request_id, loads, pop_redacted
from prediction_log.schema import HAS_LABEL, feedback, predictions, verify_schema

LARGEST_ROW = 2**31 - 1
"""Largest row number that PostgreSQL's integer holds."""


@dataclass(frozen=True)
class Answer:
    """Prediction that a caller received.

    Attributes:
        features: the raw row by column, None for a missing or redacted value.
        redacted: the redacted columns; empty for a row that an earlier release recorded.
        label: the true class, None while it is unknown.
    """

    request_id: str
    row: int
    time: datetime
    model_name: str
    model_version: str
    features: Features
    probability: float
    predicted: int
    redacted: frozenset[str] = frozenset()
    label: int | None = None


def read_answer(engine: Engine, request_id: str, row: int) -> Answer | None:
    """Return the answer to one row of a request; None if it is not on record.

    If two versions answered the same request, because the caller repeated it, the later answer is returned.

    Raises:
        LogUnfit: no log, or one with another schema.
        LogUnavailable: the database does not respond.
    """
    verify_schema(engine)
    if not is_request_id(request_id) or row > LARGEST_ROW:  # no database holds them
        return None
    columns = predictions.c
    query = select(
        columns.request_id,
        columns.row,
        columns.time,
        columns.model_name,
        columns.model_version,
        cast(columns.features, Text),
        columns.probability,
        columns.predicted,
        feedback.c.label,
    ).where(columns.request_id == request_id, columns.row == row, columns.shadow.is_(False))
    query = query.outerjoin_from(predictions, feedback, HAS_LABEL).order_by(
        columns.time.desc(), columns.model_version.desc()
    )
    with translate_errors(engine.url), engine.connect() as connection:
        record = connection.execute(query).first()
    if record is None:
        return None
    identity, number, time, name, version, text, probability, predicted, label = record
    features = loads(text)
    redacted = pop_redacted(features)
    return Answer(identity, number, to_utc(time), name, version, features, probability, predicted, redacted, label)


def to_utc(time: datetime) -> datetime:
    """Return a time of the log in UTC; SQLite returns it without a zone."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)

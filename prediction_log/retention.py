"""Deletion of old predictions in small batches, so that writers hardly wait."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, delete, exists, select

from prediction_log.engine import translate_errors
from prediction_log.errors import LogUnavailable, LogUnfit
from prediction_log.insert import IDS_PER_QUERY, split_chunks
from prediction_log.schema import feedback, predictions

ROWS_PER_PURGE = 1_000
SECONDS_BETWEEN_PURGES = 3600.0
logger = logging.getLogger(__name__)


class Purger:
    """Schedule of the deletion, which runs one batch for each call."""

    def __init__(self, engine: Engine, keep_days: int | None) -> None:
        """Set the age limit in days; None keeps all predictions."""
        self._engine = engine
        self._keep_days = keep_days
        self._batches: Iterator[int] | None = None
        self._next = time.monotonic()

    def compute_wait(self) -> float | None:
        """Return the seconds until the next purge, None for never."""
        return None if self._keep_days is None else max(0.0, self._next - time.monotonic())

    def remove_batch(self) -> int:
        """Delete one batch if a purge is due; return the number of deleted predictions, 0 if the log is unavailable."""
        if self._keep_days is None or time.monotonic() < self._next:
            return 0
        self._batches = self._batches or purge_batches(self._engine, self._keep_days)
        try:
            if removed := next(self._batches, 0):
                return removed
        except (LogUnavailable, LogUnfit) as error:
            logger.warning("old predictions not deleted, next attempt in an hour: %s", error)
        self._batches, self._next = None, time.monotonic() + SECONDS_BETWEEN_PURGES
        return 0


def purge_batches(engine: Engine, keep_days: int, now: datetime | None = None) -> Iterator[int]:
    """Delete predictions older than `keep_days`, with their labels, in small transactions.

    Yields:
        The number of deleted predictions, for each transaction.

    Raises:
        LogUnavailable: the log cannot be changed; earlier transactions stay committed.
    """
    cutoff = (now or datetime.now(UTC)) - timedelta(days=keep_days)
    has_prediction = exists().where(
        predictions.c.request_id == feedback.c.request_id, predictions.c.row == feedback.c.row
    )
    orphans = delete(feedback).where(~has_prediction)
    old = select(predictions.c.time).where(predictions.c.time < cutoff).order_by(predictions.c.time)
    with translate_errors(engine.url):
        while True:
            with engine.begin() as connection:
                times = connection.scalars(old.limit(ROWS_PER_PURGE)).all()
                if not times:
                    # Older code left labels without a prediction.
                    connection.execute(orphans.where(feedback.c.time < cutoff))
                    return
                is_old = predictions.c.time <= times[-1]
                ids = connection.scalars(select(predictions.c.request_id).where(is_old).distinct()).all()
                removed = connection.execute(delete(predictions).where(is_old)).rowcount
                # A newer prediction of another version for the same row keeps the label.
                for chunk in split_chunks(ids, IDS_PER_QUERY):
                    connection.execute(orphans.where(feedback.c.request_id.in_(chunk)))
            yield removed

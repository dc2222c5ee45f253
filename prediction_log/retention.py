"""Remove old predictions, a few at a time, so that those who write hardly wait."""

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
    """Says when it is time to look for old predictions, and removes one batch of them whenever it is asked."""

    def __init__(self, engine: Engine, keep_days: int | None) -> None:
        self._engine = engine
        self._keep_days = keep_days
        self._batches: Iterator[int] | None = None
        self._next = time.monotonic()

    def compute_wait(self) -> float | None:
        """Seconds until there may be something to remove; None for never."""
        return None if self._keep_days is None else max(0.0, self._next - time.monotonic())

    def remove_batch(self) -> int:
        """Return how many predictions were removed: none before it is time, or when the log cannot be changed now."""
        if self._keep_days is None or time.monotonic() < self._next:
            return 0
        self._batches = self._batches or purge_batches(self._engine, self._keep_days)
        try:
            if removed := next(self._batches, 0):
                return removed
        except (LogUnavailable, LogUnfit) as error:
            logger.warning("old predictions stay for now: %s", error)
        self._batches, self._next = None, time.monotonic() + SECONDS_BETWEEN_PURGES
        return 0


def purge_batches(engine: Engine, keep_days: int, now: datetime | None = None) -> Iterator[int]:
    """Remove predictions older than `keep_days`, with their labels, until nothing old is left.

    Yields how many predictions each small transaction removed.

    Raises:
        LogUnavailable: the log cannot be changed; what was removed before stays removed.
    """
    before = (now or datetime.now(UTC)) - timedelta(days=keep_days)
    has_prediction = exists().where(
        predictions.c.request_id == feedback.c.request_id, predictions.c.row == feedback.c.row
    )
    orphans = delete(feedback).where(~has_prediction)
    old = select(predictions.c.time).where(predictions.c.time < before).order_by(predictions.c.time)
    with translate_errors(engine.url):
        while True:
            with engine.begin() as connection:
                times = connection.scalars(old.limit(ROWS_PER_PURGE)).all()
                if not times:
                    # labels that older code has left behind
                    connection.execute(orphans.where(feedback.c.time < before))
                    return
                is_old = predictions.c.time <= times[-1]
                ids = connection.scalars(select(predictions.c.request_id).where(is_old).distinct()).all()
                removed = connection.execute(delete(predictions).where(is_old)).rowcount
                for some in split_chunks(ids, IDS_PER_QUERY):  # another version's answer to the same row may be young
                    connection.execute(orphans.where(feedback.c.request_id.in_(some)))
            yield removed

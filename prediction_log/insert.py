"""Transactions that write each row exactly once."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from functools import cache, lru_cache
from itertools import chain, islice
from typing import Any

from sqlalchemy import Connection, Engine, select
from sqlalchemy.dialects import postgresql

from prediction_log.rows import COLUMNS, REDACTED, Prediction
from prediction_log.schema import predictions

COLUMN_LIST = ", ".join(f'"{name}"' for name in COLUMNS)
IDS_PER_QUERY = 1_000
MAX_PROBABILITY_DIFFERENCE = 1e-6
"""Sums of float32 votes in another order differ by less."""

ROWS_PER_STATEMENT = 250
"""Rows of one SQLite statement, which may have 32,766 values. The thread gives up Python's interpreter lock during a
statement and waits for the lock afterwards, so one statement for each row would wait after each row."""

StoredRows = dict[tuple[str, int], list[Any]]
"""The stored rows for each request id and row number: one for each model version that scored the row."""


class IdConflict(Exception):
    """Positions of the requests whose ids are already in the log with other rows."""

    def __init__(self, positions: set[int]) -> None:
        super().__init__(positions)
        self.positions = positions


def commit(engine: Engine, requests: list[list[Prediction]], fresh: Collection[int] = ()) -> None:
    """Write the rows of several requests, all or none; rows that are already in the log stay unchanged.

    So a call with the same requests may be repeated after a failure before or after the commit.

    Args:
        engine: of a prepared log.
        requests: the rows of each request, from to_log_rows.
        fresh: positions of the requests with new ids, which the log need not be searched for.

    Raises:
        IdConflict: some requests have the id of another one; nothing was written.
        SQLAlchemyError: raised by the database; nothing was written, unless the connection broke during the commit.
    """
    rows = list(chain.from_iterable(requests))
    rows_to_check = [row for position, rows in enumerate(requests) if position not in fresh for row in rows]
    with engine.begin() as connection:
        # Checked before the insert, because a request with a known id must not add rows.
        stored = _read_stored_rows(connection, {row.request_id for row in rows_to_check})
        positions = _find_conflicts(stored, requests) if stored else set()
        # Two model versions may score the same row at the same moment.
        has_repeats = len({(row.request_id, row.row) for row in rows_to_check}) < len(rows_to_check)
        if not positions and (_insert_rows(connection, rows) < len(rows) or has_repeats):
            positions = _find_conflicts(_read_stored_rows(connection, {row.request_id for row in rows}), requests)
        if positions:
            raise IdConflict(positions)


def _insert_rows(connection: Connection, rows: list[Prediction]) -> int:
    """Insert rows by raw SQL, in a tenth of SQLAlchemy's time; return how many are new."""
    if connection.dialect.name == "postgresql":
        columns = tuple(list(column) for column in zip(*rows, strict=True))
        return connection.exec_driver_sql(_build_postgres_insert(), columns).rowcount
    new = 0
    for chunk in split_chunks(rows, ROWS_PER_STATEMENT):
        values = chain.from_iterable((row[0], row[1], _to_sqlite_time(row.time), *row[3:]) for row in chunk)
        new += connection.exec_driver_sql(_build_sqlite_insert(len(chunk)), tuple(values)).rowcount
    return new


@lru_cache(maxsize=ROWS_PER_STATEMENT)
def _build_sqlite_insert(rows: int) -> str:
    placeholders = ", ".join("?" for _ in COLUMNS)
    values = ", ".join(f"({placeholders})" for _ in range(rows))
    return f"INSERT INTO predictions ({COLUMN_LIST}) VALUES {values} ON CONFLICT DO NOTHING"


@cache
def _build_postgres_insert() -> str:
    """Return a statement with one array for each column, so that a thousand rows take one message."""
    types = [predictions.c[name].type.compile(postgresql.dialect()) for name in COLUMNS]  # type: ignore[no-untyped-call]  # typed only in part
    arrays = ", ".join(f"%s::{kind}[]" for kind in types)
    return f"INSERT INTO predictions ({COLUMN_LIST}) SELECT * FROM unnest({arrays}) ON CONFLICT DO NOTHING"


@lru_cache(maxsize=1_000)  # The rows of a request have the same time.
def _to_sqlite_time(time: datetime) -> str:
    """Return a UTC time in SQLAlchemy's format for SQLite."""
    return time.replace(tzinfo=None).isoformat(" ", "microseconds")


def _find_conflicts(stored: StoredRows, requests: list[list[Prediction]]) -> set[int]:
    """Return the positions of requests with other rows, or more or fewer rows, than the log has under their ids."""
    stored_numbers = _group_row_numbers(chain.from_iterable(stored.values()))
    return {
        position
        for position, rows in enumerate(requests)
        if any(_is_different(old, row) for row in rows for old in stored.get((row.request_id, row.row), ()))
        or any(
            stored_numbers.get(request_id, numbers) != numbers
            for request_id, numbers in _group_row_numbers(rows).items()
        )
    }


def _group_row_numbers(rows: Iterable[Any]) -> dict[str, set[int]]:
    """Return the row numbers of each request, without those of a shadow, which may skip rows."""
    numbers: dict[str, set[int]] = {}
    for row in rows:
        if not row.shadow:
            numbers.setdefault(row.request_id, set()).add(row.row)
    return numbers


def _is_different(old: Any, new: Prediction) -> bool:
    """Return whether a stored row and a new one have different features, in the columns that both versions take.

    Redacted values are not stored, so their effect is compared: a version gives equal rows equal probabilities.
    """
    new_features, old_features = _to_floats(json.loads(str(new.features))), _to_floats(old.features)
    if new.model_version != old.model_version:
        return any(new_features[name] != old_features[name] for name in new_features.keys() & old_features)
    is_same_scorer = new.shadow == old.shadow
    has_other_score = is_same_scorer and abs(new.probability - old.probability) > MAX_PROBABILITY_DIFFERENCE
    return new_features != old_features or has_other_score


def _to_floats(features: dict[str, Any]) -> dict[str, Any]:
    """Convert whole numbers, because PostgreSQL writes 1e300 with all its digits, which JSON reads as an int.

    REDACTED is left out, because rows of earlier releases lack it.
    """
    return {name: float(value) if type(value) is int else value for name, value in features.items() if name != REDACTED}


def _read_stored_rows(connection: Connection, ids: set[str]) -> StoredRows:
    """Return the stored rows of the requests with these ids."""
    stored: StoredRows = {}
    for chunk in split_chunks(sorted(ids), IDS_PER_QUERY):
        for row in connection.execute(select(predictions).where(predictions.c.request_id.in_(chunk))):
            stored.setdefault((row.request_id, row.row), []).append(row)
    return stored


def split_chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield lists of `size` items; the last one may be shorter."""
    remaining = iter(items)
    while chunk := list(islice(remaining, size)):
        yield chunk

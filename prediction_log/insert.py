"""Write rows in one transaction, each exactly once."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from functools import cache, lru_cache
from itertools import chain, islice
from typing import Any

from sqlalchemy import Connection, Engine, select
from sqlalchemy.dialects import postgresql

from prediction_log.rows import COLUMNS, Prediction
from prediction_log.schema import predictions

COLUMN_LIST = ", ".join(f'"{name}"' for name in COLUMNS)
IDS_PER_QUERY = 1_000
MAX_PROBABILITY_DIFFERENCE = 1e-6
"""Float32 votes that are added in another order differ by less."""

ROWS_PER_STATEMENT = 250
"""How many rows a statement of SQLite takes, which allows 32,766 values in one. While it runs, requests have Python's
interpreter lock: a statement for each row would have to wait for it again after each row."""

StoredRows = dict[tuple[str, int], list[Any]]
"""The rows of a request on record, once for each version that answered it."""


class IdConflict(Exception):
    """Requests, by their position, whose ids stand in the log with other rows already."""

    def __init__(self, positions: set[int]) -> None:
        super().__init__(positions)
        self.positions = positions


def commit(engine: Engine, requests: list[list[Prediction]], fresh: Collection[int] = ()) -> None:
    """Write the rows of several requests, all or none; rows that stand in the log already are left as they are.

    So it may be called again with the same requests after a failure, whether that was before or after the commit.

    Args:
        fresh: positions of the requests whose ids were made for them, and need no look for others that have them.

    Raises:
        Taken: nothing was written, since some requests have the id of another one.
        SQLAlchemyError: as the database says; nothing was written unless the connection broke during the commit.
    """
    rows = list(chain.from_iterable(requests))
    given = [row for position, rows in enumerate(requests) if position not in fresh for row in rows]
    with engine.begin() as connection:
        # before the rows are written: a request under a known id must not add any
        stored = _read_stored_rows(connection, {row.request_id for row in given})
        positions = _find_conflicts(stored, requests) if stored else set()
        # two versions may have answered the same row at the same moment
        meet = len({(row.request_id, row.row) for row in given}) < len(given)
        if not positions and (_insert_rows(connection, rows) < len(rows) or meet):
            positions = _find_conflicts(_read_stored_rows(connection, {row.request_id for row in rows}), requests)
        if positions:
            raise IdConflict(positions)


def _insert_rows(connection: Connection, rows: list[Prediction]) -> int:
    """Return how many rows were new. Statements by hand: SQLAlchemy looks at each value, which costs ten times."""
    if connection.dialect.name == "postgresql":
        columns = tuple(list(column) for column in zip(*rows, strict=True))
        return connection.exec_driver_sql(_build_postgres_insert(), columns).rowcount
    new = 0
    for some in split_chunks(rows, ROWS_PER_STATEMENT):
        values = chain.from_iterable((row[0], row[1], _to_sqlite_time(row.time), *row[3:]) for row in some)
        new += connection.exec_driver_sql(_build_sqlite_insert(len(some)), tuple(values)).rowcount
    return new


@lru_cache(maxsize=ROWS_PER_STATEMENT)
def _build_sqlite_insert(rows: int) -> str:
    places = ", ".join("?" for _ in COLUMNS)
    values = ", ".join(f"({places})" for _ in range(rows))
    return f"INSERT INTO predictions ({COLUMN_LIST}) VALUES {values} ON CONFLICT DO NOTHING"


@cache
def _build_postgres_insert() -> str:
    """One array for each column: a thousand rows are as many messages as one."""
    types = [predictions.c[name].type.compile(postgresql.dialect()) for name in COLUMNS]  # type: ignore[no-untyped-call]  # typed only in part
    arrays = ", ".join(f"%s::{kind}[]" for kind in types)
    return f"INSERT INTO predictions ({COLUMN_LIST}) SELECT * FROM unnest({arrays}) ON CONFLICT DO NOTHING"


@lru_cache(maxsize=1_000)  # the rows of a request have one time
def _to_sqlite_time(time: datetime) -> str:
    """Return a UTC time as SQLAlchemy writes it into SQLite."""
    return time.replace(tzinfo=None).isoformat(" ", "microseconds")


def _find_conflicts(stored: StoredRows, requests: list[list[Prediction]]) -> set[int]:
    """The requests of which the log holds another row, or more or fewer rows, whichever version answered those."""
    answered = _group_row_numbers(chain.from_iterable(stored.values()))
    return {
        position
        for position, rows in enumerate(requests)
        if any(_is_different(there, row) for row in rows for there in stored.get((row.request_id, row.row), ()))
        or any(answered.get(name, numbers) != numbers for name, numbers in _group_row_numbers(rows).items())
    }


def _group_row_numbers(rows: Iterable[Any]) -> dict[str, set[int]]:
    """The numbers of the rows that were answered, by request; a shadow may have had no time for all of them."""
    numbers: dict[str, set[int]] = {}
    for row in rows:
        if not row.shadow:
            numbers.setdefault(row.request_id, set()).add(row.row)
    return numbers


def _is_different(there: Any, row: Prediction) -> bool:
    """Return whether a row on record is another row. Versions may take other columns: those that both have count.

    A redacted value is stored nowhere, so it counts by its effect: the same version answers the same row alike.
    """
    ours, theirs = _to_floats(json.loads(str(row.features))), _to_floats(there.features)
    if row.model_version != there.model_version:
        return any(ours[name] != theirs[name] for name in ours.keys() & theirs)
    other_answer = row.shadow == there.shadow and abs(row.probability - there.probability) > MAX_PROBABILITY_DIFFERENCE
    return ours != theirs or other_answer


def _to_floats(features: dict[str, Any]) -> dict[str, Any]:
    """PostgreSQL writes 1e300 with all its digits, which is read as a whole number that is no float."""
    return {name: float(value) if type(value) is int else value for name, value in features.items()}


def _read_stored_rows(connection: Connection, ids: set[str]) -> StoredRows:
    """For each row of these requests, what the log holds of it, once for each version that answered it."""
    found: StoredRows = {}
    for some in split_chunks(sorted(ids), IDS_PER_QUERY):
        for row in connection.execute(select(predictions).where(predictions.c.request_id.in_(some))):
            found.setdefault((row.request_id, row.row), []).append(row)
    return found


def split_chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    waiting = iter(items)
    while some := list(islice(waiting, size)):
        yield some

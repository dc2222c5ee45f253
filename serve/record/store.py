"""Write rows in one transaction, each exactly once."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from itertools import chain, islice
from typing import Any

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.dialects import postgresql

from serve.record.rows import COLUMNS, Row
from serve.record.schema import predictions

NAMES = ", ".join(f'"{name}"' for name in COLUMNS)
IDS_AT_ONCE = 1_000
Features = dict[str, Any]
GROUPS = (250, 25, 5, 1)
"""How many rows a statement takes; SQLite allows 32,766 values in one."""


class Taken(Exception):
    """Requests, by their position, whose ids stand in the log with other rows already."""

    def __init__(self, positions: set[int]) -> None:
        super().__init__(positions)
        self.positions = positions


def commit(engine: Engine, requests: list[list[Row]], fresh: Collection[int] = ()) -> None:
    """Write the rows of several requests, all or none; rows that stand in the log already are left as they are.

    So it may be called again with the same requests after a failure, whether that was before or after the commit.

    Args:
        fresh: positions of the requests whose ids were made for them, and need no look for others that have them.

    Raises:
        Taken: nothing was written, since some requests have the id of another one.
        SQLAlchemyError: as the database says; nothing was written unless the connection broke during the commit.
    """
    rows = list(chain.from_iterable(requests))
    given = [rows for position, rows in enumerate(requests) if position not in fresh]
    with engine.begin() as connection:
        all_new = _insert(connection, rows) == len(rows)
        if all_new and _stand_alone(connection, given):
            return
        if positions := _positions_of_others(connection, requests):
            raise Taken(positions)


def _insert(connection: Connection, rows: list[Row]) -> int:
    """Return how many rows were new. Statements by hand: SQLAlchemy looks at each value, which costs ten times."""
    if connection.dialect.name == "sqlite":
        return sum(_insert_some(connection, some) for some in _groups(rows))
    columns = zip(*rows, strict=True)
    return connection.exec_driver_sql(_POSTGRES, tuple(list(column) for column in columns)).rowcount


def _insert_some(connection: Connection, rows: list[Row]) -> int:
    values = tuple(chain.from_iterable(map(_as_sqlite, rows)))
    return connection.exec_driver_sql(_SQLITE[len(rows)], values).rowcount


def _groups(rows: list[Row]) -> Iterator[list[Row]]:
    """Cut rows into groups, each of which one statement writes.

    While a statement runs, Python's interpreter lock is free for the requests: a statement for each row would have to
    wait for it again after each row.
    """
    start = 0
    for size in GROUPS:
        while len(rows) - start >= size:
            yield rows[start : start + size]
            start += size


def _sqlite_insert(rows: int) -> str:
    places = ", ".join("?" for _ in COLUMNS)
    values = ", ".join(f"({places})" for _ in range(rows))
    return f"INSERT INTO predictions ({NAMES}) VALUES {values} ON CONFLICT DO NOTHING"


def _postgres_insert() -> str:
    """One array for each column: a thousand rows are as many messages as one."""
    types = [predictions.c[name].type.compile(postgresql.dialect()) for name in COLUMNS]  # type: ignore[no-untyped-call]  # typed only in part
    arrays = ", ".join(f"%s::{kind}[]" for kind in types)
    return f"INSERT INTO predictions ({NAMES}) SELECT * FROM unnest({arrays}) ON CONFLICT DO NOTHING"


_SQLITE, _POSTGRES = {rows: _sqlite_insert(rows) for rows in GROUPS}, _postgres_insert()


@lru_cache(maxsize=1_000)  # the rows of a request have one time
def as_sqlite_time(time: datetime) -> str:
    """A UTC time as SQLAlchemy writes it into SQLite."""
    return time.replace(tzinfo=None).isoformat(" ", "microseconds")


def _as_sqlite(row: Row) -> tuple[Any, ...]:
    request_id, number, time, *others = row
    return (request_id, number, as_sqlite_time(time), *others)


def _stand_alone(connection: Connection, requests: list[list[Row]]) -> bool:
    """Whether the log holds no rows under the ids of these requests but their own, all of which were new."""
    rows = sum(map(len, requests))
    if len({(row.request_id, row.row) for row in chain.from_iterable(requests)}) < rows:
        return False  # two versions answered at the same moment
    ids = {row.request_id for row in chain.from_iterable(requests)}
    found = (
        connection.scalar(select(func.count()).where(predictions.c.request_id.in_(some)))
        for some in chunks(sorted(ids), IDS_AT_ONCE)
    )
    return sum(count or 0 for count in found) == rows


def _positions_of_others(connection: Connection, requests: list[list[Row]]) -> set[int]:
    """The requests of which the log holds a row with other features, whichever version answered that one."""
    stored = _features_of(connection, {row.request_id for row in chain.from_iterable(requests)})
    return {
        position
        for position, rows in enumerate(requests)
        if any(_differ(stored[row.request_id, row.row], row.model_version, json.loads(row.features)) for row in rows)
    }


def _differ(stored: list[tuple[str, Features]], version: str, features: Features) -> bool:
    """Whether one of the rows on record is another row. Versions may take other columns: what both have counts."""
    ours = _as_numbers(features)
    return any(
        ours != there if version == of else any(ours[name] != there[name] for name in ours.keys() & there)
        for of, there in ((of, _as_numbers(there)) for of, there in stored)
    )


def _as_numbers(features: Features) -> Features:
    """PostgreSQL writes 1e300 with all its digits, which is read as a whole number that is no float."""
    return {name: float(value) if type(value) is int else value for name, value in features.items()}


def _features_of(connection: Connection, ids: set[str]) -> dict[tuple[str, int], list[tuple[str, Features]]]:
    """For each row of these requests, the versions that answered it, and what they were asked."""
    columns = predictions.c
    found: dict[tuple[str, int], list[tuple[str, Features]]] = {}
    wanted = select(columns.request_id, columns.row, columns.model_version, columns.features)
    for some in chunks(sorted(ids), IDS_AT_ONCE):
        for request_id, row, version, features in connection.execute(wanted.where(columns.request_id.in_(some))):
            found.setdefault((request_id, row), []).append((version, features))
    return found


def chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    waiting = iter(items)
    while some := list(islice(waiting, size)):
        yield some

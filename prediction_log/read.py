"""The prediction log as a table: one call, one row for each prediction, the features in columns of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Engine, Select, Text, and_, cast, select, type_coerce

from prediction_log.engine import existing, failures_of
from prediction_log.errors import LogUnfit
from prediction_log.rows import INFINITY, MINUS_INFINITY, loads
from prediction_log.schema import expect_current, feedback, predictions

BEFORE = ("request_id", "row", "time", "model_version")
AFTER = ("probability", "predicted", "latency_ms")
ORDER = ("time", "request_id", "row", "model_version")
ROWS_AT_ONCE = 50_000
"""Rows that exist as Python objects at a time; the rest is in columns, which take a tenth of the memory."""

PLAIN = pa.schema(
    {
        "request_id": pa.string(), "row": pa.int64(), "time": pa.timestamp("us", "UTC"), "model_version": pa.string(),
        "probability": pa.float64(), "predicted": pa.int64(), "latency_ms": pa.float64(), "label": pa.float64(),
    }
)  # fmt: skip
INFINITE = {INFINITY: float("inf"), MINUS_INFINITY: float("-inf")}


def read_log(
    url: str,
    start: datetime | None = None,
    end: datetime | None = None,
    last: int | None = None,
    model_version: str | None = None,
    shadow: bool | None = False,
    labels: bool = False,
    model_name: str | None = None,
) -> pd.DataFrame:
    """Read a window of the prediction log, oldest first.

    Args:
        url: sqlite:///FILE (relative: to the repository) or postgresql://...
        start, end: with a time zone; the end is excluded.
        last: only the newest so many rows of what the other arguments leave.
        shadow: False: what was answered; True: what a model beside it would have answered; None: both.
        labels: adds the true labels; NaN where none is known.
        model_name: only what this model answered; scorers of several models may share a log.

    Returns:
        n rows: request_id, row, time (UTC), model_version, the features, probability, predicted, latency_ms, and
        label if asked for. Numbers but for row and predicted are doubles (a null is NaN), texts are objects (None).
        A feature that is called like one of those columns has a dot before its name.

    Raises:
        LogUnfit: no log at this address, or one of another schema.
        LogUnavailable: the database does not answer.
    """
    columns = predictions.c
    equal = (columns.model_name, model_name), (columns.model_version, model_version), (columns.shadow, shadow)
    where = [column == value for column, value in equal if value is not None]
    if start is not None:
        where.append(columns.time >= _utc(start, "start"))
    if end is not None:
        where.append(columns.time < _utc(end, "end"))
    with existing(url, reads=True) as engine:
        expect_current(engine)
        with failures_of(engine.url):
            return _frame(list(_parts(engine, _ordered(_query(engine, labels).where(*where), last))), labels)


def features_in(log: pd.DataFrame) -> pd.DataFrame:
    """Return the features of a log that was read with its labels, each under its own name."""
    known = (*BEFORE, *AFTER, "label")
    return log.drop(columns=[*known]).rename(columns={f".{name}": name for name in known})


def _query(engine: Engine, labels: bool) -> Select[Any]:
    columns = predictions.c
    # as texts: pyarrow and pandas turn a whole column at once into numbers and times, SQLAlchemy one value at a time
    time = type_coerce(columns.time, Text) if engine.dialect.name == "sqlite" else columns.time
    chosen = [columns.request_id, columns.row, time, columns.model_version, *(columns[name] for name in AFTER)]
    query = select(*chosen, cast(columns.features, Text).label("features"))
    if not labels:
        return query
    same = and_(feedback.c.request_id == columns.request_id, feedback.c.row == columns.row)
    return query.add_columns(feedback.c.label).outerjoin_from(predictions, feedback, same)


def _utc(moment: datetime, name: str) -> datetime:
    if moment.tzinfo is None:
        raise LogUnfit(f"{name} ({moment}) has no time zone; write for example datetime(2026, 1, 31, tzinfo=UTC).")
    return moment.astimezone(UTC)


def _ordered(query: Select[Any], last: int | None) -> Select[Any]:
    """Oldest first, of all rows or the newest."""
    order = [predictions.c[name] for name in ORDER]
    if last is not None:
        newest = query.order_by(*(column.desc() for column in order)).limit(last).subquery()
        return select(newest).order_by(*(newest.c[name] for name in ORDER))
    return query.order_by(*order)


def _parts(engine: Engine, query: Select[Any]) -> Iterator[pa.Table]:
    """The result as tables of at most ROWS_AT_ONCE rows."""
    with engine.connect() as connection:
        result = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(query)
        for rows in result.partitions():
            yield _table(dict(zip(result.keys(), zip(*rows, strict=True), strict=True)))


def _table(columns: dict[str, tuple[Any, ...]]) -> pa.Table:
    """One part: the plain columns, then the features' own, whose names begin with '.' so that none can clash."""
    features = features_table(columns.pop("features"))
    times = pd.to_datetime(pd.Series(columns.pop("time")), utc=True, format="ISO8601").astype("datetime64[us, UTC]")
    plain = {name: pa.array(values, PLAIN.field(name).type) for name, values in columns.items()}
    own = {f".{name}": features[name] for name in features.column_names}
    return pa.table({**plain, "time": pa.array(times), **own})


def features_table(texts: Iterable[str]) -> pa.Table:
    """Parse n JSON objects into columns: doubles where every value is a number, else texts; gaps are null."""
    rows = [loads(text) for text in texts]
    names = dict.fromkeys(chain.from_iterable(rows))
    return pa.table({name: _column([row.get(name) for row in rows]) for name in names})


def _column(values: list[Any]) -> pa.Array:
    texts = {value for value in values if isinstance(value, str)}
    if texts <= INFINITE.keys():
        return pa.array([INFINITE.get(value, value) for value in values] if texts else values, pa.float64())
    numbers = pa.array([None if isinstance(value, str) else value for value in values], pa.float64())
    only_texts = pa.array([value if isinstance(value, str) else None for value in values], pa.string())
    return pc.coalesce(only_texts, numbers.cast(pa.string()))


def _frame(parts: list[pa.Table], labels: bool) -> pd.DataFrame:
    table = _joined([PLAIN.empty_table(), *parts])
    features = [name for name in table.column_names if name.startswith(".")]
    order = [*BEFORE, *features, *AFTER, *(["label"] if labels else [])]
    frame: pd.DataFrame = table.select(order).to_pandas(split_blocks=True, self_destruct=True)
    return frame.rename(columns={name: name[1:] for name in features if name[1:] not in order})


def _joined(parts: list[pa.Table]) -> pa.Table:
    """One table of all parts: a column that is of numbers here and of texts there is of texts."""
    texts = {field.name for part in parts for field in part.schema if pa.types.is_string(field.type)}
    return pa.concat_tables(
        [
            part.cast(pa.schema([one.with_type(pa.string()) if one.name in texts else one for one in part.schema]))
            for part in parts
        ],
        promote_options="permissive",
    )

"""The prediction log as a table, with one row for each prediction and one column for each feature."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Engine, Select, Text, cast, func, select, type_coerce

from prediction_log.engine import open_existing, translate_errors
from prediction_log.errors import LogUnfit
from prediction_log.rows import INFINITY, MINUS_INFINITY, REDACTED, loads
from prediction_log.schema import HAS_LABEL, feedback, predictions, verify_schema

LEADING_COLUMNS = ("request_id", "row", "time", "model_version")
TRAILING_COLUMNS = ("probability", "predicted", "latency_ms")
SORT_COLUMNS = ("time", "request_id", "row", "model_version")
ROWS_PER_PART = 50_000
"""Rows that are Python objects at the same time; Arrow columns take a tenth of the memory."""

PLAIN_SCHEMA = pa.schema(
    {
        "request_id": pa.string(), "row": pa.int64(), "time": pa.timestamp("us", "UTC"), "model_version": pa.string(),
        "probability": pa.float64(), "predicted": pa.int64(), "latency_ms": pa.float64(), "label": pa.float64(),
    }
)  # fmt: skip
INFINITY_BY_TEXT = {INFINITY: float("inf"), MINUS_INFINITY: float("-inf")}


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
        url: sqlite:///FILE (relative to the repository) or postgresql://...
        start: start of the window, with a time zone.
        end: end of the window (excluded), with a time zone.
        last: number of rows, the newest of the selection.
        model_version: only predictions of this version.
        shadow: True for predictions of the shadow, False for those that callers received, None for both.
        labels: add the true labels, NaN where unknown.
        model_name: only predictions of this model; scorers of several models may share a log.

    Returns:
        n rows: request_id, row, time (UTC), model_version, the features, probability, predicted, latency_ms, and
        label if requested. Numbers except row and predicted are doubles (null is NaN), texts are objects (None).
        A feature with the name of one of these columns gets a dot before its name.

    Raises:
        LogUnfit: no log at this URL, one with another schema, or a time without a time zone.
        LogUnavailable: the database does not respond.
    """
    values = {"model_name": model_name, "model_version": model_version, "shadow": shadow}
    conditions = _build_conditions(start, end, values)
    with open_existing(url, reads=True) as engine:
        verify_schema(engine)
        with translate_errors(engine.url):
            query = _sort_query(_build_query(engine, labels).where(*conditions), last)
            return _build_frame(list(_iter_parts(engine, query)), labels)


def count_rows(
    url: str,
    start: datetime,
    end: datetime | None = None,
    model_version: str | None = None,
    model_name: str | None = None,
) -> int:
    """Return the number of predictions that callers received from `start` up to, but not including, `end`.

    The other arguments and the errors are those of read_log.
    """
    conditions = _build_conditions(
        start, end, {"model_name": model_name, "model_version": model_version, "shadow": False}
    )
    with open_existing(url, reads=True) as engine:
        verify_schema(engine)
        with translate_errors(engine.url), engine.connect() as connection:
            counted = select(func.count()).select_from(predictions).where(*conditions)
            return int(connection.execute(counted).scalar_one())


def select_features(log: pd.DataFrame) -> pd.DataFrame:
    """Return the feature columns of a log from `read_log` with labels, under their original names."""
    log_columns = (*LEADING_COLUMNS, *TRAILING_COLUMNS, "label")
    return log.drop(columns=[*log_columns]).rename(columns={f".{name}": name for name in log_columns})


def _build_conditions(start: datetime | None, end: datetime | None, values: dict[str, Any]) -> list[Any]:
    columns = predictions.c
    conditions = [columns[name] == value for name, value in values.items() if value is not None]
    if start is not None:
        conditions.append(columns.time >= _to_utc(start, "start"))
    if end is not None:
        conditions.append(columns.time < _to_utc(end, "end"))
    return conditions


def _build_query(engine: Engine, labels: bool) -> Select[Any]:
    columns = predictions.c
    # Selected as text, because pyarrow and pandas parse a whole column at once, SQLAlchemy one value at a time.
    time = type_coerce(columns.time, Text) if engine.dialect.name == "sqlite" else columns.time
    identity = [columns.request_id, columns.row, time, columns.model_version]
    features = cast(columns.features, Text).label("features")
    query = select(*identity, *(columns[name] for name in TRAILING_COLUMNS), features)
    if not labels:
        return query
    return query.add_columns(feedback.c.label).outerjoin_from(predictions, feedback, HAS_LABEL)


def _to_utc(moment: datetime, name: str) -> datetime:
    if moment.tzinfo is None:
        raise LogUnfit(f"{name}: no time zone (found {moment}). Write for example datetime(2026, 1, 31, tzinfo=UTC).")
    return moment.astimezone(UTC)


def _sort_query(query: Select[Any], last: int | None) -> Select[Any]:
    """Sort the rows, oldest first, and limit them to the `last` ones."""
    order = [predictions.c[name] for name in SORT_COLUMNS]
    if last is not None:
        newest = query.order_by(*(column.desc() for column in order)).limit(last).subquery()
        return select(newest).order_by(*(newest.c[name] for name in SORT_COLUMNS))
    return query.order_by(*order)


def _iter_parts(engine: Engine, query: Select[Any]) -> Iterator[pa.Table]:
    """Yield the result as tables of at most ROWS_PER_PART rows."""
    with engine.connect() as connection:
        result = connection.execution_options(yield_per=ROWS_PER_PART).execute(query)
        for rows in result.partitions():
            yield _build_part(dict(zip(result.keys(), zip(*rows, strict=True), strict=True)))


def _build_part(columns: dict[str, tuple[Any, ...]]) -> pa.Table:
    """Return a part with a dot before the names of features, so that they cannot clash with other columns."""
    features = parse_features(columns.pop("features"))
    times = pd.to_datetime(pd.Series(columns.pop("time")), utc=True, format="ISO8601").astype("datetime64[us, UTC]")
    plain = {name: pa.array(values, PLAIN_SCHEMA.field(name).type) for name, values in columns.items()}
    dotted = {f".{name}": features[name] for name in features.column_names}
    return pa.table({**plain, "time": pa.array(times), **dotted})


def parse_features(texts: Iterable[str]) -> pa.Table:
    """Parse n JSON objects into a table of n rows; a column has doubles if all its values are numbers, else texts.

    A redacted value is null, like a missing one.
    """
    rows = [loads(text) for text in texts]
    names = dict.fromkeys(chain.from_iterable(rows))
    names.pop(REDACTED, None)
    return pa.table({name: _build_column([row.get(name) for row in rows]) for name in names})


def _build_column(values: list[Any]) -> pa.Array:
    texts = {value for value in values if isinstance(value, str)}
    if texts <= INFINITY_BY_TEXT.keys():
        return pa.array([INFINITY_BY_TEXT.get(value, value) for value in values] if texts else values, pa.float64())
    numbers = pa.array([None if isinstance(value, str) else value for value in values], pa.float64())
    only_texts = pa.array([value if isinstance(value, str) else None for value in values], pa.string())
    return pc.coalesce(only_texts, numbers.cast(pa.string()))


def _build_frame(parts: list[pa.Table], labels: bool) -> pd.DataFrame:
    table = _join_parts([PLAIN_SCHEMA.empty_table(), *parts])
    features = [name for name in table.column_names if name.startswith(".")]
    order = [*LEADING_COLUMNS, *features, *TRAILING_COLUMNS, *(["label"] if labels else [])]
    frame: pd.DataFrame = table.select(order).to_pandas(split_blocks=True, self_destruct=True)
    return frame.rename(columns={name: name[1:] for name in features if name[1:] not in order})


def _join_parts(parts: list[pa.Table]) -> pa.Table:
    """Join the parts; a column with numbers in one part and texts in another becomes text."""
    texts = {field.name for part in parts for field in part.schema if pa.types.is_string(field.type)}
    schemas = (
        pa.schema([field.with_type(pa.string()) if field.name in texts else field for field in part.schema])
        for part in parts
    )
    same_types = [part.cast(schema) for part, schema in zip(parts, schemas, strict=True)]
    return pa.concat_tables(same_types, promote_options="permissive")

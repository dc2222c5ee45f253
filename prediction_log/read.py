"""The prediction log as a table: one call, one row for each prediction, the features in columns of their own."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
from sqlalchemy import Engine, Select, Text, and_, cast, select, type_coerce

from prediction_log.engine import ROOT, expect_file, failures_of, open_engine
from prediction_log.errors import LogUnfit
from prediction_log.rows import INFINITY, MINUS_INFINITY
from prediction_log.schema import expect_current, feedback, predictions

BEFORE = ("request_id", "row", "time", "model_version")
AFTER = ("probability", "predicted", "latency_ms")
ROWS_AT_ONCE = 50_000
"""Rows that exist as Python objects at a time; the rest is in columns, which take a tenth of the memory."""

INFINITE = {INFINITY: float("inf"), MINUS_INFINITY: float("-inf")}


def read_log(
    url: str,
    start: datetime | None = None,
    end: datetime | None = None,
    last: int | None = None,
    model_version: str | None = None,
    shadow: bool | None = False,
    labels: bool = False,
    base: Path = ROOT,
    model_name: str | None = None,
) -> pd.DataFrame:
    """Read a window of the prediction log, oldest first.

    Args:
        url: sqlite:///FILE (relative: to `base`, the repository) or postgresql://...
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
    engine = open_engine(url, base, reads=True)
    try:
        expect_file(engine)
        expect_current(engine)
        statement = _window(engine, start, end, model_name, model_version, shadow, labels)
        with failures_of(engine.url):
            parts = list(_parts(engine, _ordered(statement, last), last))
    finally:
        engine.dispose()
    return _frame(parts[::-1] if last is not None else parts, labels)


def features_in(log: pd.DataFrame) -> pd.DataFrame:
    """Return the features of a log that was read with its labels, each under its own name."""
    known = (*BEFORE, *AFTER, "label")
    return log.drop(columns=[*known]).rename(columns={f".{name}": name for name in known})


def _window(
    engine: Engine,
    start: datetime | None,
    end: datetime | None,
    model_name: str | None,
    model_version: str | None,
    shadow: bool | None,
    labels: bool,
) -> Select[Any]:
    columns = predictions.c
    # as texts: pyarrow and pandas turn a whole column at once into numbers and times, SQLAlchemy one value at a time
    time = type_coerce(columns.time, Text) if engine.dialect.name == "sqlite" else columns.time
    chosen = [columns.request_id, columns.row, time, columns.model_version, *(columns[name] for name in AFTER)]
    query = select(*chosen, cast(columns.features, Text).label("features"))
    if labels:
        same = and_(feedback.c.request_id == columns.request_id, feedback.c.row == columns.row)
        query = query.add_columns(feedback.c.label).outerjoin_from(predictions, feedback, same)
    if start is not None:
        query = query.where(columns.time >= _utc(start, "start"))
    if end is not None:
        query = query.where(columns.time < _utc(end, "end"))
    if model_name is not None:
        query = query.where(columns.model_name == model_name)
    if model_version is not None:
        query = query.where(columns.model_version == model_version)
    return query if shadow is None else query.where(columns.shadow == shadow)


def _utc(moment: datetime, name: str) -> datetime:
    if moment.tzinfo is None:
        raise LogUnfit(f"{name} ({moment}) has no time zone; write for example datetime(2026, 1, 31, tzinfo=UTC).")
    return moment.astimezone(UTC)


def _ordered(query: Select[Any], last: int | None) -> Select[Any]:
    """Oldest first; the newest ones first where only so many of them are wanted."""
    order = predictions.c.time, predictions.c.request_id, predictions.c.row, predictions.c.model_version
    if last is None:
        return query.order_by(*order)
    return query.order_by(*(column.desc() for column in order)).limit(last)


def _parts(engine: Engine, query: Select[Any], last: int | None) -> Iterator[pa.Table]:
    """The result as tables of at most ROWS_AT_ONCE rows, each oldest first."""
    with engine.connect() as connection:
        result = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(query)
        for rows in result.partitions():
            ordered = rows if last is None else rows[::-1]
            yield _table(dict(zip(result.keys(), zip(*ordered, strict=True), strict=True)))


def _table(columns: dict[str, tuple[Any, ...]]) -> pa.Table:
    """One part: the plain columns, then the features' own, whose names begin with '.' so that none can clash."""
    features = features_table(columns.pop("features"))
    times = pd.to_datetime(pd.Series(columns.pop("time")), utc=True, format="ISO8601").astype("datetime64[us, UTC]")
    table = pa.table({name: list(values) for name, values in columns.items()}).append_column("time", pa.array(times))
    for name in features.column_names:
        table = table.append_column("." + name, features[name])
    return table


def features_table(texts: tuple[str, ...]) -> pa.Table:
    """Parse n JSON objects into columns: doubles where every value is a number, else texts; gaps are null."""
    if not any(text != "{}" for text in texts):
        return pa.table({})
    try:
        table = _parsed("\n".join(texts).encode(), {})
    except pa.ArrowInvalid:  # numbers and texts in one column
        return _from_objects(texts)
    # pyarrow takes texts that look like a time for one
    wrong = {field.name: pa.string() for field in table.schema if pa.types.is_temporal(field.type)}
    table = _parsed("\n".join(texts).encode(), wrong) if wrong else table
    return pa.table({name: _numbers(table[name]) for name in table.column_names})


def _parsed(lines: bytes, types: dict[str, pa.DataType]) -> pa.Table:
    options = pyarrow.json.ParseOptions(explicit_schema=pa.schema(types) if types else None)
    return pyarrow.json.read_json(io.BytesIO(lines), parse_options=options)


def _numbers(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    if not pa.types.is_string(column.type):
        return column.cast(pa.float64())
    held = {*column.unique().to_pylist()} - {None}
    return _mixed(column.to_pylist()) if held and held <= INFINITE.keys() else column


def _from_objects(texts: tuple[str, ...]) -> pa.Table:
    """The slow way, for columns that hold numbers and texts: with infinite values only they are numbers, else texts."""
    rows = [json.loads(text) for text in texts]
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: _mixed([row.get(name) for row in rows]) for name in names})


def _mixed(values: list[Any]) -> pa.Array:
    texts = {value for value in values if isinstance(value, str)}
    if texts <= INFINITE.keys():
        return pa.array([INFINITE.get(value, value) for value in values], pa.float64())
    numbers = pa.array([None if isinstance(value, str) else value for value in values], pa.float64())
    only_texts = pa.array([value if isinstance(value, str) else None for value in values], pa.string())
    return pc.coalesce(only_texts, numbers.cast(pa.string()))


def _frame(parts: list[pa.Table], labels: bool) -> pd.DataFrame:
    if not parts:
        return _empty(labels)
    table = _joined(parts)
    features = [name for name in table.column_names if name.startswith(".")]
    order = [*BEFORE, *features, *AFTER, *(["label"] if labels else [])]
    frame: pd.DataFrame = table.select(order).to_pandas(split_blocks=True, self_destruct=True)
    frame = frame.rename(columns={name: name[1:] for name in features if name[1:] not in order})
    return frame.astype({"label": float}) if labels else frame


def _joined(parts: list[pa.Table]) -> pa.Table:
    """One table of all parts: a column that is of numbers here and of texts there is of texts."""
    kinds: dict[str, set[pa.DataType]] = {}
    for part in parts:
        for field in part.schema:
            kinds.setdefault(field.name, set()).add(field.type)
    texts = {name for name, found in kinds.items() if len(found) > 1 and pa.string() in found}
    return pa.concat_tables([_as_texts(part, texts) for part in parts], promote_options="permissive")


def _as_texts(part: pa.Table, names: set[str]) -> pa.Table:
    for name in names & {*part.column_names}:
        part = part.set_column(part.column_names.index(name), name, part[name].cast(pa.string()))
    return part


def _empty(labels: bool) -> pd.DataFrame:
    frame = pd.DataFrame(
        {name: pd.Series(dtype="float64") for name in (*BEFORE, *AFTER, *(["label"] if labels else []))}
    )
    kinds = {"request_id": "object", "row": "int64", "time": "datetime64[us, UTC]", "model_version": "object"}
    return frame.astype({**kinds, "predicted": "int64"})

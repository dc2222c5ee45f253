"""Answers on record in parts of one version each, and their rows as a version of the model takes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import compress
from operator import itemgetter
from typing import Any

import numpy as np
import orjson
from sqlalchemy import Engine, Select, Text, cast, select

from prediction_log.engine import translate_errors
from prediction_log.rows import INFINITY, MINUS_INFINITY, REDACTED, Features, pop_redacted
from prediction_log.schema import HAS_LABEL, feedback, predictions, verify_schema
from prediction_log.window import LogWindow
from serve.model.onnx_graph import Graph, Rows
from stepkit.words import pluralize

ROWS_AT_ONCE = 10_000

Version = tuple[str, str]
"""Name and version of a registered model."""

NO_ANSWERS = "-P current: no answers on record in this window. Choose another, for example log:?rows=1000."


@dataclass(frozen=True)
class Records:
    """n answers of one version.

    Attributes:
        features: n JSON objects.
        time, label: only if requested; a label is None while it is unknown.
    """

    request_id: list[str]
    row: list[int]
    features: list[str]
    probability: np.ndarray
    predicted: np.ndarray
    time: list[datetime] = field(default_factory=list)
    label: list[int | None] = field(default_factory=list)


def iter_records(engine: Engine, window: LogWindow, labels: bool = False) -> Iterator[tuple[Version, Records]]:
    """Yield the answers of a window in parts of one version each, in the order of their time.

    `labels`: add the time and the true label of each answer.

    Raises:
        LogUnfit, LogUnavailable: the log cannot be read.
    """
    verify_schema(engine)
    with translate_errors(engine.url), engine.connect() as connection:
        result = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(_build_query(window, labels))
        for part in result.partitions():
            yield from _split_by_version(part)


def _build_query(window: LogWindow, labels: bool) -> Select[Any]:
    columns = predictions.c
    features = cast(columns.features, Text)
    query: Select[Any] = select(
        columns.model_name,
        columns.model_version,
        columns.request_id,
        columns.row,
        features,
        columns.probability,
        columns.predicted,
    ).where(columns.shadow.is_(False))
    if labels:
        query = query.add_columns(columns.time, feedback.c.label).outerjoin_from(predictions, feedback, HAS_LABEL)
    if window.start:
        query = query.where(columns.time >= window.start)
    if window.end:
        query = query.where(columns.time < window.end)
    if window.version and window.version != "any":
        query = query.where(columns.model_version == window.version)
    # Newest first only if their number is limited. The order does not affect the result.
    newest = (columns.time.desc(), columns.request_id, columns.row)
    return query.order_by(*newest).limit(window.rows) if window.rows else query.order_by(columns.time)


def _split_by_version(part: Any) -> Iterator[tuple[Version, Records]]:
    names, versions, *columns = zip(*part, strict=True)
    pairs = list(zip(names, versions, strict=True))
    for version in dict.fromkeys(pairs):
        is_of_version = [pair == version for pair in pairs]
        ids, rows, features, probability, predicted, *more = (
            list(compress(column, is_of_version)) for column in columns
        )
        yield version, Records(ids, rows, features, np.array(probability), np.array(predicted), *more)


def parse_records(
    model: Graph, features: list[str], hidden: Collection[str] = ()
) -> tuple[Rows, list[Features], list[int], Counter[str]]:
    """Return the rows that a version can score, as it takes them and as they were recorded, and their places.

    The counter has the number of the other rows by reason.

    Args:
        model: the version.
        features: n recorded rows, JSON objects.
        hidden: columns that the log does not keep. A row of an earlier release does not name its redacted columns:
            there a null in one of these columns counts as redacted.
    """
    records: list[Features] = orjson.loads(f"[{','.join(features)}]")
    columns = [name for name in model.names if name in hidden]
    if not columns and not any(REDACTED in record for record in records):
        with suppress(KeyError, TypeError, ValueError):  # a column is missing, or has the wrong type
            return to_rows(model, records), records, list(range(len(records))), Counter()
    reasons = [explain_unusable(model, record, pop_redacted(record), columns) for record in records]
    places = [place for place, reason in enumerate(reasons) if not reason]
    usable = [records[place] for place in places]
    return to_rows(model, usable), usable, places, Counter(filter(None, reasons))


def explain_unusable(model: Graph, features: Features, redacted: Collection[str], hidden: Collection[str] = ()) -> str:
    """Return the reason why a version cannot score a recorded row; "" if it can.

    `redacted` are the columns that the log names as redacted, `hidden` as in parse_records.
    """
    lost = redacted or [name for name in hidden if features.get(name) is None]
    if columns := [name for name in model.names if name in lost]:
        return f"column {', '.join(columns)} is redacted (serve.redact)"
    for name in model.names:
        if name not in features:
            return f"column {name} is not on record"
        value, is_text = features[name], name in model.text
        if value is not None and value not in (INFINITY, MINUS_INFINITY) and isinstance(value, str) != is_text:
            kinds = ("a number", "a text")
            return f"column {name} has the wrong type on record (found {kinds[not is_text]}, expected {kinds[is_text]})"
    return ""


def to_rows(model: Graph, records: list[Features]) -> Rows:
    """Return n recorded rows as the version takes them; null is a missing value, "Infinity" is infinite.

    Raises:
        KeyError: a column is missing.
        TypeError, ValueError: a value has the wrong type.
    """
    texts = {name: _to_texts([record[name] for record in records]) for name in model.text}
    # itemgetter takes a fraction of the time of a loop over the names.
    values = list(map(itemgetter(*model.numeric), records)) if model.numeric else []
    numbers = np.array(values, dtype=np.float64)
    return Rows(model.numeric, numbers.reshape(len(records), len(model.numeric)).T, texts, len(records))


def _to_texts(values: list[Any]) -> np.ndarray:
    if not {*map(type, values)} <= {str, type(None)}:
        raise TypeError("not a text")
    return np.array([text or "" for text in values], dtype=object)


def format_skipped(skipped: Counter[str]) -> list[str]:
    """Return a line for each reason why answers were not replayed."""
    return [f"not replayed: {pluralize(count, 'answer')}, because {reason}" for reason, count in skipped.items()]

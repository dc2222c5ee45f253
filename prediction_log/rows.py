"""A prediction, and its conversion to a row of the log: sampled, redacted, with features as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

Features = dict[str, float | str | None]
MAX_ID_LENGTH = 200
try:
    import orjson

    _dumps: Callable[[Any], bytes] | None = orjson.dumps
    loads: Callable[[str], Any] = orjson.loads
except ModuleNotFoundError:  # A stock MLflow server may lack orjson.
    _dumps, loads = None, json.loads

INFINITY, MINUS_INFINITY = "Infinity", "-Infinity"
"""Infinite numbers as text in the log, because JSON lacks them; read_log converts them back."""

REDACTED = "(redacted)"
"""Key of a recorded row with the names of its redacted columns, a JSON list as text: a redacted value is null, like a
missing one. Readers of earlier releases take it for one more column with texts."""

_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=lambda value: value.item()).encode
_UNSTORABLE_ESCAPES = ("\\u0000", "\\ud")
"""Escapes of NUL and of lone surrogates: valid in JSON, rejected by PostgreSQL."""


class Prediction(NamedTuple):
    """One scored row of one request; a tuple, because a frozen dataclass takes four times as long to create.

    Attributes:
        row: index of the row in its request, from 0.
        time: of scoring, with a time zone.
        shadow: True if the shadow scored the row; its predictions are never returned.
        features: the caller's raw row by column, or as text from `encode_feature_table`.
        probability: of the positive class, 0 to 1.
        predicted: the class at the model's threshold, 0 or 1.
        latency_ms: milliseconds from the request's arrival to its scores.
    """

    request_id: str
    row: int
    time: datetime
    model_name: str
    model_version: str
    shadow: bool
    features: Features | str
    probability: float
    predicted: int
    latency_ms: float


COLUMNS = Prediction._fields


def is_request_id(text: str) -> bool:
    """Return whether a text is a valid request id: 1 to 200 printable characters, which both databases can index."""
    return 0 < len(text) <= MAX_ID_LENGTH and text.isprintable()


def is_in_sample(request_id: str, sample_rate: float) -> bool:
    """Return whether to log a request; depends only on its id, so all processes and retries agree."""
    number = int.from_bytes(blake2b(request_id.encode("utf-8", "replace"), digest_size=8).digest(), "big")
    return number < sample_rate * 2**64


def select_sample(predictions: list[Prediction], sample_rate: float) -> list[Prediction]:
    """Return the predictions of the requests that are in the sample."""
    if sample_rate >= 1.0:
        return predictions
    request_ids = {prediction.request_id for prediction in predictions}
    sample = {request_id for request_id in request_ids if is_in_sample(request_id, sample_rate)}
    return [prediction for prediction in predictions if prediction.request_id in sample]


def to_log_rows(predictions: Iterable[Prediction], hidden: frozenset[str] = frozenset()) -> list[Prediction]:
    """Return predictions as rows of the log, with time in UTC, features as JSON and plain numbers.

    Args:
        predictions: of any requests.
        hidden: columns to store as null, named under REDACTED.

    Raises:
        ValueError: an invalid request id, a time without a time zone, or a probability outside 0 to 1.
    """
    return [_to_log_row(prediction, hidden) for prediction in predictions]


def _to_log_row(prediction: Prediction, hidden: frozenset[str]) -> Prediction:
    request_id, row, time, name, version, shadow, features, probability, predicted, ms = prediction
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"request {request_id}, row {row}: wrong probability (found {probability}, expected 0 to 1)")
    utc, text = _to_utc(request_id, time), features if isinstance(features, str) else encode_features(features, hidden)
    return Prediction(request_id, row, utc, name, version, shadow, text, float(probability), int(predicted), float(ms))


@lru_cache(maxsize=1_000)  # The rows of a request have the same id and time.
def _to_utc(request_id: str, time: datetime) -> datetime:
    if not is_request_id(request_id):
        raise ValueError(
            f"request id: wrong (found {request_id[:MAX_ID_LENGTH]!r}, expected 1 to {MAX_ID_LENGTH} printable "
            "characters)"
        )
    if time.tzinfo is None:
        raise ValueError(f"request {request_id}: time without a time zone (found {time})")
    return time.astimezone(UTC)


def encode_features(features: Features, hidden: frozenset[str] = frozenset()) -> str:
    """Return a raw row as JSON for both databases: NaN as null, infinity as text, unstorable characters replaced.

    Values of `hidden` columns become null, and REDACTED names these columns.
    """
    if names := tuple(name for name in features if name in hidden):
        features = {**features, **dict.fromkeys(names), REDACTED: _encode_names(names)}
    return _encode_fast(features) or _encode_exact(features)


@lru_cache(maxsize=10)
def _encode_names(names: tuple[str, ...]) -> str:
    return json.dumps(names, ensure_ascii=False)


def pop_redacted(features: dict[str, Any]) -> frozenset[str]:
    """Remove REDACTED from a recorded row; return the names of its redacted columns.

    A row that an earlier release recorded has no names, so a null in it may be a redacted value.
    """
    names: list[str] = json.loads(features.pop(REDACTED, "[]"))
    return frozenset(names)


def encode_feature_table(
    names: Sequence[str], numbers: np.ndarray, hidden: frozenset[str] = frozenset()
) -> list[str] | None:
    """Return the JSON of n rows of numbers, as `encode_features` would, in a third of the time.

    Args:
        names: the k columns.
        numbers: n x k doubles, NaN for a missing number.
        hidden: columns to write as null.

    Returns:
        n texts, or None if `encode_features` must be used: for an infinite number, an unstorable name, or no orjson.
    """
    template = _build_template(tuple(names), hidden)
    if not template or not numbers.size or np.isinf(numbers).any():
        return None
    rows = orjson.dumps(np.ascontiguousarray(numbers), option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return [template % tuple(row.split(",")) for row in rows[2:-2].split("],[")]


@lru_cache(maxsize=10)
def _build_template(names: tuple[str, ...], hidden: frozenset[str]) -> str:
    """Return a %-template for the JSON of a row, with null for hidden columns; empty if a name is unstorable."""
    keys = [_encode_fast({name: 0}).removesuffix(":0}") for name in names]
    if not all(keys):
        return ""
    places = ["null%.0s" if name in hidden else "%s" for name in names]
    pairs = [f"{key[1:].replace('%', '%%')}:{place}" for key, place in zip(keys, places, strict=True)]
    if redacted := tuple(name for name in names if name in hidden):
        pairs.append(_encode_fast({REDACTED: _encode_names(redacted)})[1:-1].replace("%", "%%"))
    return f"{{{','.join(pairs)}}}"


def _encode_fast(features: Features) -> str:
    """Return the JSON in a fifth of the time, or an empty text for rows with gaps or special values."""
    if not _dumps:
        return ""
    try:
        text = _dumps(features).decode()
    except TypeError:  # a lone surrogate, or a number of numpy
        return ""
    # orjson writes NaN and infinity as null.
    return "" if "null" in text or _UNSTORABLE_ESCAPES[0] in text else text


def _encode_exact(features: Features) -> str:
    try:
        text = _encode(features)
    except ValueError:  # NaN and infinity are rare, so checking each value first would take longer.
        text = _encode({name: _replace_non_finite(value) for name, value in features.items()})
    if any(escape in text for escape in _UNSTORABLE_ESCAPES):
        return _encode(
            {_replace_unstorable(name): _replace_unstorable(value) for name, value in json.loads(text).items()}
        )
    return text


def _replace_non_finite(value: Any) -> Any:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else INFINITY if value > 0 else MINUS_INFINITY


def _replace_unstorable(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    valid_text = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return valid_text.replace("\0", "\ufffd")

"""What a prediction is, and the row that it becomes in the log: sampled, redacted, its features as JSON."""

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
except ModuleNotFoundError:  # a stock MLflow server has it not, and gets along without
    _dumps, loads = None, json.loads

INFINITY, MINUS_INFINITY = "Infinity", "-Infinity"
"""JSON has no infinite numbers; they stand in the log as these texts, and read_log turns them back."""

_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=lambda value: value.item()).encode
_UNSTORABLE_ESCAPES = ("\\u0000", "\\ud")
"""How a NUL and a half of a surrogate pair look in JSON: PostgreSQL refuses both, though JSON allows them."""


class Prediction(NamedTuple):
    """One scored row of one request; a tuple, as a frozen dataclass takes four times as long to make.

    Attributes:
        row: index of the row in its request, from 0.
        time: when it was scored (with a time zone).
        shadow: scored by a model beside the one that answered.
        features: the raw row as the caller gave it, by column; or the text that `features_texts` made of it.
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
    """Whether a text may name a request: 1 to 200 printable characters, which both databases store and index."""
    return 0 < len(text) <= MAX_ID_LENGTH and text.isprintable()


def is_in_sample(request_id: str, sample_rate: float) -> bool:
    """Whether a request is in the sample: its id alone decides, so every process and every retry agrees."""
    number = int.from_bytes(blake2b(request_id.encode("utf-8", "replace"), digest_size=8).digest(), "big")
    return number < sample_rate * 2**64


def select_sample(predictions: list[Prediction], sample_rate: float) -> list[Prediction]:
    if sample_rate >= 1.0:
        return predictions
    kept = {name for name in {one.request_id for one in predictions} if is_in_sample(name, sample_rate)}
    return [one for one in predictions if one.request_id in kept]


def to_log_rows(predictions: Iterable[Prediction], hidden: frozenset[str] = frozenset()) -> list[Prediction]:
    """Return the predictions as they are written: their time in UTC, their features as JSON, plain numbers.

    Raises:
        ValueError: an id that is_request_id refuses; a time without a zone; a probability that is none.
    """
    return [_to_log_row(one, hidden) for one in predictions]


def _to_log_row(one: Prediction, hidden: frozenset[str]) -> Prediction:
    request_id, row, time, name, version, shadow, features, probability, predicted, ms = one
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"the probability of request {request_id}, row {row}, is {probability}")
    utc, text = _to_utc(request_id, time), features if isinstance(features, str) else encode_features(features, hidden)
    return Prediction(request_id, row, utc, name, version, shadow, text, float(probability), int(predicted), float(ms))


@lru_cache(maxsize=1_000)  # the rows of a request have one id and one time
def _to_utc(request_id: str, time: datetime) -> datetime:
    if not is_request_id(request_id):
        raise ValueError(f"a request id has 1 to {MAX_ID_LENGTH} printable characters: {request_id[:MAX_ID_LENGTH]!r}")
    if time.tzinfo is None:
        raise ValueError(f"the time of request {request_id} has no time zone")
    return time.astimezone(UTC)


def encode_features(features: Features, hidden: frozenset[str] = frozenset()) -> str:
    """Return a raw row as JSON that both databases take: NaN is null, infinity a text, broken characters replaced."""
    if hidden:
        features = {name: None if name in hidden else value for name, value in features.items()}
    return _encode_fast(features) or _encode_exact(features)


def encode_feature_table(
    names: Sequence[str], numbers: np.ndarray, hidden: frozenset[str] = frozenset()
) -> list[str] | None:
    """Return what `features_json` writes for n rows of numbers, in a third of its time.

    Args:
        names: the k columns.
        numbers: n x k doubles, NaN where a number is missing.
        hidden: columns whose values are not to be written.

    Returns:
        n texts, or None where each row has to be looked at: an infinite number, an odd name, no orjson.
    """
    template = _build_template(tuple(names), hidden)
    if not template or not numbers.size or np.isinf(numbers).any():
        return None
    rows = orjson.dumps(np.ascontiguousarray(numbers), option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return [template % tuple(row.split(",")) for row in rows[2:-2].split("],[")]


@lru_cache(maxsize=10)
def _build_template(names: tuple[str, ...], hidden: frozenset[str]) -> str:
    """The text of a row with a place for each value, of which a hidden one fills nothing; empty where a name is odd."""
    keys = [_encode_fast({name: 0}).removesuffix(":0}") for name in names]
    if not all(keys):
        return ""
    places = ["null%.0s" if name in hidden else "%s" for name in names]
    pairs = (f"{key[1:].replace('%', '%%')}:{place}" for key, place in zip(keys, places, strict=True))
    return f"{{{','.join(pairs)}}}"


def _encode_fast(features: Features) -> str:
    """The same in a fifth of the time for rows without gaps and oddities; for others the empty text."""
    if not _dumps:
        return ""
    try:
        text = _dumps(features).decode()
    except TypeError:  # half a surrogate pair, a number of numpy's
        return ""
    # NaN and infinity would both be null
    return "" if "null" in text or _UNSTORABLE_ESCAPES[0] in text else text


def _encode_exact(features: Features) -> str:
    try:
        text = _encode(features)
    except ValueError:  # a NaN or an infinity, which are rare: looking for them in every row would cost more
        text = _encode({name: _replace_non_finite(value) for name, value in features.items()})
    if any(sign in text for sign in _UNSTORABLE_ESCAPES):
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
    whole = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\0", "\ufffd")

"""Request body -> rows and parameters, compatible with MLflow's scoring server and much faster for common bodies.

`parse_fast` reads JSON with orjson and numpy, and returns None for anything unusual. `parse_with_mlflow` leaves the
body to MLflow's own parsing and schema enforcement, so that both servers accept and refuse the same bodies. CSV is read
as in training and in batch. docs/serve.md lists the differences from MLflow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import orjson
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc import _validate_prediction_input, scoring_server

from serve.http.csv_body import is_number, read_csv_table, verify_unique_columns
from serve.http.refusals import Refusal, make_bad_request, make_refusal
from serve.http.request_context import JSON
from serve.model.onnx_graph import Rows
from serve.model.servable import Servable

CSV = "text/csv"
TYPES: tuple[str, ...] = (JSON, CSV, scoring_server.CONTENT_TYPE_PARQUET)
LONGEST_WHOLE_NUMBER = 300  # digits; a longer number may exceed the range of doubles and is parsed as one (infinity)
NUMBER_TYPES = {int, float, bool, type(None)}
TEXT_TYPES = {str, type(None)}
LONGEST_MESSAGE = 600
EXAMPLE = "/docs has an example."
KEYS = "dataframe_split, dataframe_records, instances, inputs"

PARAMS, REASONS = "params", "reasons"
"""Key of MLflow's inference parameters, and the parameter with the number of reasons of each answer."""

Table = list[list[Any]]


@dataclass(frozen=True)
class ScoringRequest:
    """Rows to score, and the number of reasons of each answer."""

    rows: Rows
    reasons: int = 0


def parse_fast(body: bytes, kind: str, model: Servable) -> ScoringRequest | None:
    """Return a JSON body that has every column of the model with values of its type, else None.

    Raises Refusal as `verify_reasons`.
    """
    if kind != JSON:
        return None
    try:
        request = orjson.loads(body)
        count = 0
        if PARAMS in request:
            ((name, count),) = request.pop(PARAMS).items()
            _require(name == REASONS and type(count) is int)
        ((key, data),) = request.items()
        rows = _to_rows(_READERS[key](data, model), model)
        if model.recorded:
            rows = replace(rows, recorded=read_recorded(data, model, rows.count))
    # The shape is unusual, or a number exceeds the range of doubles. MLflow's reader decides whether that is an error.
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, IndexError):
        return None
    return ScoringRequest(rows, verify_reasons(count, model))


def read_recorded(data: Any, model: Servable, rows: int) -> dict[str, list[Any]]:
    """Return n values of each column that is recorded without being an input; a column that is missing is left out."""
    columns = {name: values for name, values in _list_columns(data) if name in model.recorded and len(values) == rows}
    return {name: [_to_recordable(value) for value in values] for name, values in columns.items()}


def _to_recordable(value: Any) -> Any:
    """Return a number or text; None for anything else, because a column that is not an input refuses no request."""
    return value if isinstance(value, int | float | str) and value == value else None


def verify_reasons(count: int, model: Servable) -> int:
    """Return the number of reasons; raise Refusal: 400 if it is out of range, 409 if the version has no reasons."""
    if count and model.explainer is None:
        raise make_refusal("NO_REASONS", version=model.version)
    if not 0 <= count <= len(model.names):
        expected = f"expected 0 to {len(model.names)}, the number of columns"
        raise make_bad_request(f"params: reasons is out of range (found {count}, {expected}). Correct it.", PARAMS)
    return count


def _read_split(data: Any, model: Servable) -> Table:
    rows, columns, index = data["data"], data["columns"], data.get("index")
    _require(rows and not data.keys() - {"columns", "data", "index"} and len(set(columns)) == len(columns))
    _require({len(row) for row in rows} == {len(columns)})
    _require(index is None or (len(index) == len(rows) and set(map(type, index)) == {int}))
    if tuple(columns) == model.names:
        return list(rows)
    positions = [columns.index(name) for name in model.names]
    return [[row[position] for position in positions] for row in rows]


def _read_records(data: Any, model: Servable) -> Table:
    _require(data and set(map(type, data)) == {dict})
    return [[row[name] for name in model.names] for row in data]


def _read_instances(data: Any, model: Servable) -> Table:
    # MLflow also converts unknown columns, which may fail.
    _require(all(len(row) == len(model.names) for row in data))
    return _read_records(data, model)


def _read_inputs(data: Any, model: Servable) -> Table:
    if isinstance(data, list):
        return _read_instances(data, model)
    columns = [data[name] for name in model.names]
    _require(len(data) == len(model.names) and set(map(type, columns)) == {list} and columns[0])
    return [list(row) for row in zip(*columns, strict=True)]


def _require(condition: Any) -> None:
    if not condition:
        raise ValueError


_READERS: dict[str, Callable[[Any, Servable], Table]] = {
    "dataframe_split": _read_split,
    "dataframe_records": _read_records,
    "instances": _read_instances,
    "inputs": _read_inputs,
}


def _to_rows(table: Table, model: Servable) -> Rows:
    """Return an n x k table, with the model's columns in their order, as arrays; raise ValueError for a wrong type."""
    if not model.text:
        return Rows(model.names, _to_numbers(table), {}, len(table))
    columns = dict(zip(model.names, zip(*table, strict=True), strict=True))
    texts = {name: _to_texts(columns[name]) for name in model.text}
    numbers = _to_numbers([list(columns[name]) for name in model.numeric]).T
    return Rows(model.numeric, numbers, texts, len(table))


def _to_numbers(table: Table) -> np.ndarray:
    """Return an n x k table as a k x n array of doubles, null as NaN."""
    _require(NUMBER_TYPES.issuperset(map(type, chain.from_iterable(table))))
    return np.array(table, dtype=np.float64).T


def _to_texts(column: tuple[Any, ...]) -> np.ndarray:
    _require(TEXT_TYPES.issuperset(map(type, column)))
    return np.array([(text or "").rstrip("\0") for text in column], dtype=object)


class _Reader:
    """Stand-in for the model in MLflow's scoring server that keeps the rows which the model would receive."""

    def __init__(self, model: Servable) -> None:
        self.model = model
        self.metadata: Model = model.metadata
        self.request: ScoringRequest | None = None

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> list[Any]:
        if isinstance(data, pd.DataFrame):
            verify_unique_columns(data.columns.tolist(), self.model)
        schema, params_schema = self.metadata.get_input_schema(), self.metadata.get_params_schema()
        # MLflow ignores the parameters of a model without a schema for them, such as one of an earlier release.
        ignored = params if isinstance(params, dict) and params_schema is None else {}
        table, params = _validate_prediction_input(data, params, schema, params_schema)
        count = {**ignored, **(params or {})}.get(REASONS) or 0
        rows = self.model.to_rows(table)
        if self.model.recorded:
            rows = replace(rows, recorded=read_recorded(data, self.model, rows.count))
        self.request = ScoringRequest(rows, verify_reasons(int(count), self.model))
        return []


def parse_with_mlflow(body: bytes, kind: str, model: Servable) -> ScoringRequest:
    """Return any body that MLflow's scoring server accepts for this model.

    Raises Refusal with the status of MLflow's scoring server and the field to correct.
    """
    if not body:
        raise make_bad_request(f"body: empty. Send a table as JSON, CSV or Parquet. {EXAMPLE}", "body")
    reader = _Reader(model)
    request: Any = body
    try:
        if kind == CSV:
            reader.predict(read_csv_table(body, model))
        else:
            request = _parse_json_request(body, model) if kind == JSON else body
            scoring_server.invocations(request, kind, reader, model.metadata.get_input_schema())
    except MlflowException as error:
        reason = shorten_message(error.message)
        field = find_field(reason, request, model)
        message = rewrite_message(reason, field)
        raise Refusal(error.get_http_status_code(), error.error_code, message, field) from error
    except Refusal:
        raise
    except Exception as error:  # MLflow's server would respond with 500, although the body is wrong
        reason = "nested too deeply" if isinstance(error, RecursionError) else f"{type(error).__name__}: {error}"
        raise make_bad_request(f"body: cannot be read ({reason[:LONGEST_MESSAGE]}). Correct it.", "body") from error
    if reader.request is None:
        raise make_bad_request(f"body: contains no table. {EXAMPLE}", "body")
    _verify_whole_texts(reader.request.rows)
    return reader.request


def _verify_whole_texts(rows: Rows) -> None:
    """Raise Refusal (400) for a text with half a surrogate pair, which UTF-8 cannot encode."""
    for name, column in rows.texts.items():
        try:
            "".join(column).encode()
        except UnicodeEncodeError:
            message = f"{name}: a text contains half a surrogate pair. Send whole characters."
            raise make_bad_request(message, name) from None


def _parse_json_request(body: bytes, model: Servable) -> Any:
    """Return a parsed JSON body for MLflow, with texts and numbers that mean the same in every shape.

    MLflow reads a missing text in `instances` and `inputs` as "None", and fails for integers beyond the range of
    doubles. Return the unparsed body if it is not a JSON object, which MLflow refuses.
    """
    try:
        request = json.loads(body, parse_int=_parse_whole_number)
    except ValueError:
        return body
    if not isinstance(request, dict):
        return body
    for key in _READERS.keys() & request.keys() if model.text else ():
        _convert_texts(request[key], model.text)
    return request


def _parse_whole_number(digits: str) -> float:
    return int(digits) if len(digits) < LONGEST_WHOLE_NUMBER else float(digits)


def _convert_texts(data: Any, names: tuple[str, ...]) -> None:
    """Convert the values of the text columns to texts in place, in any of the JSON shapes."""
    if isinstance(data, list):
        for row in data:
            _convert_texts(row, names)
        return
    if not isinstance(data, dict):
        return
    for name in names & data.keys():
        cells = data[name]
        data[name] = [_to_text(cell) for cell in cells] if isinstance(cells, list) else _to_text(cells)
    columns, rows = data.get("columns"), data.get("data")
    if isinstance(columns, list) and isinstance(rows, list):
        positions = [position for position, name in enumerate(columns) if name in names]
        for row in rows:
            if isinstance(row, list):
                for position in positions:
                    row[position : position + 1] = map(_to_text, row[position : position + 1])
            else:
                _convert_texts(row, names)


def _to_text(value: Any) -> Any:
    if value is None or value != value:
        return ""
    return str(value) if isinstance(value, bool | int | float) else value


# Messages of pandas and MLflow that repeat a value of a row.
_REPEATED_VALUE = re.compile(r"could not convert string to float: ('[^']*'|\"[^\"]*\"|\S+)")
_REPEATED_DATA = re.compile(r"(Failed to convert data)(?: type for data)? `.*` (?=to type|with spec)", re.DOTALL)


def shorten_message(message: str) -> str:
    """Return MLflow's message without the caller's data, which MLflow repeats before and after the reason."""
    if message.startswith("Failed to predict data"):
        message = message.partition("\nError: ")[2]
    if message.startswith("Failed to enforce schema of data"):
        message = message.rpartition("Error: ")[2]
    message = message.partition("\nInput: ")[0].partition("IMPORTANT: The MLflow Model")[0]
    message = _REPEATED_DATA.sub(r"\1 ", _REPEATED_VALUE.sub("a text is not a number", message))
    return re.sub(r"\s+", " ", message).strip()[:LONGEST_MESSAGE]


_PARAMS_IN_MESSAGE = re.compile(r"^(?:Parameters must be|Invalid parameters found)")
_FIELD_IN_MESSAGE = re.compile(
    r"missing inputs \[(.+?)\]|convert column (.+?) to type|types for column (.+?)\. |column '(.+?)' occurs twice"
)


def find_field(message: str, request: Any, model: Servable) -> str:
    """Return the columns in MLflow's message, else the first column with a text as number, else the key or "body"."""
    if _PARAMS_IN_MESSAGE.search(message):
        return PARAMS
    if match := _FIELD_IN_MESSAGE.search(message):
        return match[match.lastindex or 0].replace("'", "")
    keys = [key for key in _READERS if isinstance(request, dict) and key in request]
    if len(keys) != 1:
        return "body"
    for name, values in _list_columns(request[keys[0]]):
        if name in model.numeric and not all(map(is_number, values)):
            return name
    return keys[0]


_REWRITTEN = [
    (r"^Invalid parameters found", r"reasons is not a whole number (expected 0 to the number of columns). Correct it."),
    (r"^Parameters must be a dictionary.*", rf"not an object (expected for example {{'reasons': 4}}). {EXAMPLE}"),
    (r"missing inputs \[.+?\]\. Note that there were extra inputs: \[(.*?)\]",
     r"missing in the body (unknown columns there: \1). /docs lists the columns of the model."),
    (r"missing inputs \[.+?\]", "missing in the body. /docs lists the columns of the model."),
    (r"convert column .+? to type '?float64", "not a number in at least one row. Send numbers or null."),
    (r"column '.+?' occurs twice", "occurs twice in the body. Send it once."),
    (r"valid JSON formatted string\. Error: '\w+\('(.+)'\)'", r"not valid JSON (\1). Correct the body."),
    (r"one of the input fields .*input fields: \[\]", rf"no table (expected one of the keys {KEYS}). {EXAMPLE}"),
    (r"one of the input fields .*input fields: \[(.*)\]", rf"two tables (found \1, expected one of {KEYS}). {EXAMPLE}"),
    (r"one of the input fields .*Received (.+)\.", rf"no table (found \1, expected one of the keys {KEYS}). {EXAMPLE}"),
    (r"split format must be .* Got (.+)\.", rf"not an object with columns and data (found \1). {EXAMPLE}"),
    (r"records format must be .* Got (?:type )?(.+)\.", rf"not a list of objects (found \1). {EXAMPLE}"),
    (r"Failed to convert data", rf"does not fit the columns of the model. {EXAMPLE}"),
    (r"valid Parquet .*Error: '(.+)'", r"not a valid Parquet table (\1). Correct the body."),
    (r"^(?:Invalid input\. )?(.*)", r"\1"),
]  # fmt: skip
"""Patterns of MLflow's messages, each with the problem of the field and the next action."""


def rewrite_message(reason: str, field: str) -> str:
    """Return MLflow's message with the field as its subject."""
    problems = (match.expand(text) for pattern, text in _REWRITTEN if (match := re.search(pattern, reason)))
    return f"{field}: {next(problems)}"


def _list_columns(data: Any) -> list[tuple[str, list[Any]]]:
    """Return the columns of a table in any of the JSON shapes; an empty list if it has none."""
    try:
        if isinstance(data, dict) and "data" in data:
            frame = pd.DataFrame(data["data"], columns=data.get("columns"))
        else:
            frame = pd.DataFrame(data)
        # The name of a column may be a mapping or a list, for which pandas fails here.
        return [(str(name), values.tolist()) for name, values in frame.items()]
    except (ValueError, TypeError, AttributeError, KeyError):
        return []

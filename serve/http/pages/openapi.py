"""OpenAPI document of the scorer with an example request for the served model, and the page /docs made from it."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd

from serve.http.explain import ExplainRequest
from serve.http.feedback import Label
from serve.http.refusals import make_refusal
from serve.http.request_context import JSON
from serve.model.servable import Servable

TEMPLATE = Path(__file__).with_name("docs.html")
GETS = {
    "/ping": "Status 200 once a model is loaded, else 503",
    "/health": "Served and refused versions, and the state of the registry and the prediction log",
    "/version": "Version of MLflow",
    "/metrics": "Metrics in Prometheus' text format",
}
REFUSED = {
    "400": "The body does not fit the model, or a value cannot be recorded.",
    "401": "The API key is missing or wrong.",
    "404": "The prediction log has no such row.",
    "409": "The X-Request-Id is already on record with other rows, or the version has no reasons for this answer.",
    "413": "The body is too large.",
    "415": "The Content-Type is not supported.",
    "500": "The model or the scorer failed.",
    "503": "No model is loaded yet, the prediction log cannot be written, or too many large bodies arrive at once.",
    "504": "The request took too long.",
}
TEXT, ARRAY = {"type": "string"}, {"type": "array"}
REFUSAL = {
    "type": "object",
    "required": ["error_code", "message", "request_id"],
    "properties": dict.fromkeys(("error_code", "message", "request_id", "field"), TEXT),
}
FORMATS: dict[str, Any] = {
    "dataframe_split": {
        "type": "object",
        "required": ["columns", "data"],
        "properties": dict.fromkeys(("columns", "data", "index"), ARRAY),
    },
    "dataframe_records": {"type": "array", "items": {"type": "object"}},
    "instances": ARRAY,
    "inputs": {"type": ["object", "array"]},
}
REQUEST = {
    "type": "object",
    "oneOf": [{"required": [name], "properties": {name: schema}} for name, schema in FORMATS.items()],
}
ROW = {"type": "object", "properties": {"probability": {"type": "number"}, "class": {"type": "integer"}}}
RESPONSE = {"type": "object", "properties": {"predictions": {"type": "array", "items": ROW}}}
REQUEST_ID = {
    "name": "X-Request-Id",
    "in": "header",
    "description": "The header X-Request-Id is optional: your own id for the request.",
    "schema": {**TEXT, "pattern": "^[A-Za-z0-9][\\w.:-]*$"},
}
KEYS = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def build_example_request(model: Servable | None) -> dict[str, Any]:
    """Return a body that the model can score: two rows with values of its input example, but of no real client."""
    if model is None:
        return {"dataframe_split": {"columns": [], "data": []}}
    values = {
        name: _pick_typical_values(model.example[name], number % 2 == 1) for number, name in enumerate(model.names)
    }
    rows = json.loads(pd.DataFrame(values, dtype=object).to_json(orient="values"))
    clients = json.loads(model.example[list(model.names)].to_json(orient="values"))
    # One column or one row cannot be mixed, so the example then has missing values, which the model accepts.
    data = [[None] * len(row) if row in clients else row for row in rows]
    return {"dataframe_split": {"columns": list(model.names), "data": data}}


def _pick_typical_values(values: pd.Series, swapped: bool) -> list[Any]:
    """Return the median and the lower quartile of n values, or `swapped`; None if all are missing.

    If columns rise together, the same order in every column would give a client of the input example.
    """
    ordered = values.dropna().sort_values().to_list()
    shares = (1, 2) if swapped else (2, 1)
    return [ordered[(len(ordered) - 1) * share // 4] if ordered else None for share in shares]


def build_document(model: Servable | None) -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of every endpoint."""
    gets = {
        path: {"get": {"summary": summary, "responses": {"200": {"description": summary}}}}
        for path, summary in GETS.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Scorer", "version": model.version if model else "0"},
        "paths": {
            "/invocations": {"post": _describe_invocations(model)},
            "/feedback": {"post": _describe_feedback()},
            "/explain": {"post": _describe_explain()},
            **gets,
        },
        "components": {"schemas": {"Refusal": REFUSAL}, "securitySchemes": KEYS},
        "security": [{}, {"bearer": []}, {"key": []}],
    }


def _describe_invocations(model: Servable | None) -> dict[str, Any]:
    response = {"predictions": [{"probability": 0.25, "class": 0}]}
    accepted = {
        JSON: {"schema": REQUEST, "example": build_example_request(model)},
        "text/csv": {"schema": TEXT, "example": ",".join(model.names) if model else ""},
    }
    scored = {
        "description": "Probability of class 1, and the predicted class, of each row",
        "content": {JSON: {"schema": RESPONSE, "example": response}},
    }
    return {
        "summary": "Score rows",
        "description": "JSON with one of the keys dataframe_split, dataframe_records, instances and inputs, "
        "or CSV with a header, or Parquet. Every column of the model is required; unknown columns are ignored.",
        "parameters": [REQUEST_ID],
        "requestBody": {"required": True, "content": accepted},
        "responses": {"200": scored, **_describe_refusals("400", "401", "409", "413", "415", "500", "503", "504")},
    }


def _describe_feedback() -> dict[str, Any]:
    label = {"request_id": "X-Request-Id of a response", "row": 0, "label": 1}
    accepted = {JSON: {"schema": Label.model_json_schema(), "example": label}}
    recorded = {"description": "The label is on record: new, repeated or changed."}
    return {
        "summary": "Record the true class of a scored row",
        "description": "request_id is the X-Request-Id of the response, row the position in that request, from 0. "
        "Sending the same label again changes nothing.",
        "requestBody": {"required": True, "content": accepted},
        "responses": {"200": recorded, **_describe_refusals("400", "401", "404", "413", "415", "503", "504")},
    }


def _describe_explain() -> dict[str, Any]:
    request = {"request_id": "X-Request-Id of a response", "row": 0, "reasons": 4}
    accepted = {JSON: {"schema": ExplainRequest.model_json_schema(), "example": request}}
    explained = {"description": "The answer on record, its reasons, baseline, protected_effect and other."}
    return {
        "summary": "Explain an answer on record",
        "description": "The version that gave the answer computes its reasons. Another version than the served one "
        "takes some seconds, because it is loaded first.",
        "requestBody": {"required": True, "content": accepted},
        "responses": {
            "200": explained,
            **_describe_refusals("400", "401", "404", "409", "413", "415", "500", "503", "504"),
        },
    }


def _describe_refusals(*statuses: str) -> dict[str, Any]:
    content = {JSON: {"schema": {"$ref": "#/components/schemas/Refusal"}}}
    return {status: {"description": REFUSED[status], "content": content} for status in statuses}


def render_page(model: Servable | None) -> str:
    """Return the page as HTML: an example request to send, the endpoints, the errors and the columns of the model."""
    paths = build_document(model)["paths"]
    example = paths["/invocations"]["post"]["requestBody"]["content"][JSON]["example"]
    label = paths["/feedback"]["post"]["requestBody"]["content"][JSON]["example"]
    refusal = make_refusal("UNKNOWN_REQUEST", row=0).to_dict(request_id="...")
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        served=f"Serves <b>{escape(model.name)}</b> version {escape(model.version)}." if model else "No model yet.",
        example=escape(_format_table(example["dataframe_split"])),
        operations="".join(
            _render_operation(method, path, operation)
            for path, operations in paths.items()
            for method, operation in operations.items()
        ),
        label=escape(json.dumps(label)),
        refusal=escape(json.dumps(refusal, indent=1)),
        statuses="".join(_render_row(status, meaning) for status, meaning in REFUSED.items()),
        columns=_render_columns(model, example["dataframe_split"]["data"]),
    )


def _format_table(table: dict[str, Any]) -> str:
    """Return a dataframe_split body with the columns and each row on a line of their own."""
    rows = ",\n  ".join(json.dumps(row) for row in table["data"])
    return f'{{"dataframe_split": {{\n "columns": {json.dumps(table["columns"])},\n "data": [\n  {rows}]}}}}'


def _render_operation(method: str, path: str, operation: dict[str, Any]) -> str:
    notes = [parameter["description"] for parameter in operation.get("parameters", ())]
    text = " ".join([f"{operation['summary']}.", operation.get("description", ""), *notes])
    statuses = f"Statuses: {', '.join(operation['responses'])}." if method == "post" else ""
    return f"<tr><td><code>{method.upper()} {path}</code></td><td>{escape(text)} {statuses}</td></tr>"


def _render_columns(model: Servable | None, rows: list[list[Any]]) -> str:
    if model is None:
        return ""
    types = ["text" if name in model.text else "number" for name in model.names]
    examples = [json.dumps(value, ensure_ascii=False) for value in rows[0]]
    return "".join(_render_row(*cells) for cells in zip(model.names, types, examples, strict=True))


def _render_row(*cells: str) -> str:
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"

"""The OpenAPI document of the scorer, and /docs: a page with a working example that needs nothing from elsewhere."""

from __future__ import annotations

import html
import json
from typing import Any

import pandas as pd

from serve.http.feedback import Label
from serve.model.servable import Servable

UNAVAILABLE = {"413": "body too large", "503": "no model yet, or the log cannot be written", "504": "took too long"}


def example_request(model: Servable | None) -> dict[str, Any]:
    """Return a body that the model answers: two rows of nobody, though of values that its own example has."""
    if model is None:
        return {"dataframe_split": {"columns": [], "data": []}}
    values = {name: _typical(model.example[name], number % 2 == 1) for number, name in enumerate(model.names)}
    made = json.loads(pd.DataFrame(values, dtype=object).to_json(orient="values"))
    clients = json.loads(model.example[list(model.names)].to_json(orient="values"))
    # where nothing can be mixed (one column, one row) it shows gaps, which the model takes too
    shown = [[None] * len(row) if row in clients else row for row in made]
    return {"dataframe_split": {"columns": list(model.names), "data": shown}}


def _typical(values: pd.Series, swapped: bool) -> list[Any]:
    """The median and the lower quartile of n values (of texts: by the alphabet), or swapped; None where all lack.

    Columns that rise together would give rows of the example if all were taken in one order.
    """
    ordered = values.dropna().sort_values().to_list()
    shares = (1, 2) if swapped else (2, 1)
    return [ordered[(len(ordered) - 1) * share // 4] if ordered else None for share in shares]


def document(model: Servable | None) -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of every endpoint."""
    gets = {
        "/ping": "200 once there is a model",
        "/health": "what is served and what was refused",
        "/version": "MLflow's version",
        "/metrics": "Prometheus' text format",
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Scorer", "version": model.version if model else "0"},
        "paths": {
            "/invocations": {"post": _invocations(model)},
            "/feedback": {"post": _feedback()},
            **{path: {"get": _operation(what)} for path, what in gets.items()},
        },
        "components": {"schemas": {"Refusal": _refusal()}, "securitySchemes": _keys()},
        "security": [{}, {"bearer": []}, {"key": []}],
    }


def _operation(summary: str) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": summary}}}


def _invocations(model: Servable | None) -> dict[str, Any]:
    csv = ",".join(model.names) if model else ""
    answer = {"predictions": [{"probability": 0.25, "class": 0}]}
    given = {"name": "X-Request-Id", "in": "header", "schema": {"type": "string", "pattern": "^[A-Za-z0-9][\\w.:-]*$"}}
    return {
        "summary": "score raw rows: dataframe_split, dataframe_records, instances, inputs, or CSV with a header",
        "parameters": [given],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _request_schema(), "example": example_request(model)},
                "text/csv": {"schema": {"type": "string"}, "example": csv},
            },
        },
        "responses": {
            "200": {"description": "probability and class of each row", "content": _json(_answer_schema(), answer)},
            **_refusals({"400": "the body does not fit", "401": "API key", "409": "id taken", "415": "content type"}),
            **_refusals({"500": "the model failed", **UNAVAILABLE}),
        },
    }


def _request_schema() -> dict[str, Any]:
    formats = {
        "dataframe_split": {
            "type": "object",
            "required": ["columns", "data"],
            "properties": {"columns": {"type": "array"}, "data": {"type": "array"}, "index": {"type": "array"}},
        },
        "dataframe_records": {"type": "array", "items": {"type": "object"}},
        "instances": {"type": "array"},
        "inputs": {"type": ["object", "array"]},
    }
    return {"type": "object", "oneOf": [{"required": [name], "properties": {name: s}} for name, s in formats.items()]}


def _answer_schema() -> dict[str, Any]:
    row = {"type": "object", "properties": {"probability": {"type": "number"}, "class": {"type": "integer"}}}
    return {"type": "object", "properties": {"predictions": {"type": "array", "items": row}}}


def _feedback() -> dict[str, Any]:
    schema = Label.model_json_schema()
    example = {"request_id": "the X-Request-Id of an answer", "row": 0, "label": 1}
    return {
        "summary": "the true class of a row that was answered; the same label again changes nothing",
        "requestBody": {"required": True, "content": _json(schema, example)},
        "responses": {
            "200": {"description": "it is on record"},
            **_refusals({"400": "the body does not fit", "401": "API key", "404": "no such prediction"}),
            **_refusals({"415": "content type", **UNAVAILABLE}),
        },
    }


def _json(schema: dict[str, Any], example: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema, "example": example}}


def _refusals(statuses: dict[str, str]) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
    return {status: {"description": why, "content": content} for status, why in statuses.items()}


def _refusal() -> dict[str, Any]:
    texts = ("error_code", "message", "request_id", "field")
    return {
        "type": "object",
        "required": ["error_code", "message", "request_id"],
        "properties": {name: {"type": "string"} for name in texts},
    }


def _keys() -> dict[str, Any]:
    return {
        "bearer": {"type": "http", "scheme": "bearer"},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Scorer</title>
<style>body {{ font: 16px sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }}
textarea, pre {{ width: 100%; font: 13px monospace; background: #f5f5f5; padding: .5em; box-sizing: border-box }}
textarea {{ height: 16em }} td {{ padding: .2em 1em .2em 0 }}</style></head><body>
<h1>Scorer</h1>
<p>Serves {served}. The whole description: <a href="/openapi.json">openapi.json</a>.</p>
<table>{table}</table>
<h2>Try it: POST /invocations</h2>
<textarea id="body">{example}</textarea>
<p><label>API key, if one is set: <input id="key" type="password"></label> <button id="send">Send</button></p>
<pre id="answer">The answer appears here.</pre>
<script>
document.getElementById("send").onclick = async () => {{
  const headers = {{"Content-Type": "application/json"}};
  const key = document.getElementById("key").value;
  if (key) headers["X-API-Key"] = key;
  const answer = await fetch("/invocations", {{method: "POST", headers, body: document.getElementById("body").value}});
  const marks = ["x-request-id", "x-model-version"].map(name => name + ": " + answer.headers.get(name)).join("\\n");
  document.getElementById("answer").textContent = answer.status + "\\n" + marks + "\\n\\n" + await answer.text();
}};
</script></body></html>
"""


def page(model: Servable | None) -> str:
    """Return /docs as HTML."""
    paths = document(model)["paths"]
    lines = [
        f"<tr><td><code>{method.upper()} {path}</code></td><td>{html.escape(operation['summary'])}</td></tr>"
        for path, operations in paths.items()
        for method, operation in operations.items()
    ]
    served = f"{model.name} version {model.version}" if model else "no model yet"
    example = html.escape(json.dumps(example_request(model), indent=1))
    return PAGE.format(served=html.escape(served), table="".join(lines), example=example)

"""The OpenAPI document of the scorer, and /docs: a page with a working example that needs nothing from elsewhere."""

from __future__ import annotations

import html
import json
from typing import Any

import pandas as pd

from serve.http.feedback import Label
from serve.http.request_context import JSON
from serve.model.servable import Servable

GETS = {
    "/ping": "200 once there is a model",
    "/health": "what is served and what was refused",
    "/version": "MLflow's version",
    "/metrics": "Prometheus' text format",
}
REFUSED = {
    "400": "the body does not fit",
    "401": "API key",
    "404": "no such prediction",
    "409": "id taken",
    "413": "body too large",
    "415": "content type",
    "500": "the model failed",
    "503": "no model yet, or the log cannot be written",
    "504": "took too long",
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
ANSWER = {"type": "object", "properties": {"predictions": {"type": "array", "items": ROW}}}
REQUEST_ID = {"name": "X-Request-Id", "in": "header", "schema": {**TEXT, "pattern": "^[A-Za-z0-9][\\w.:-]*$"}}
KEYS = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def build_example_request(model: Servable | None) -> dict[str, Any]:
    """Return a body that the model answers: two rows of nobody, though of values that its own example has."""
    if model is None:
        return {"dataframe_split": {"columns": [], "data": []}}
    values = {
        name: _pick_typical_values(model.example[name], number % 2 == 1) for number, name in enumerate(model.names)
    }
    made = json.loads(pd.DataFrame(values, dtype=object).to_json(orient="values"))
    clients = json.loads(model.example[list(model.names)].to_json(orient="values"))
    # where nothing can be mixed (one column, one row) it shows gaps, which the model takes too
    shown = [[None] * len(row) if row in clients else row for row in made]
    return {"dataframe_split": {"columns": list(model.names), "data": shown}}


def _pick_typical_values(values: pd.Series, swapped: bool) -> list[Any]:
    """The median and the lower quartile of n values (of texts: by the alphabet), or swapped; None where all lack.

    Columns that rise together would give rows of the example if all were taken in one order.
    """
    ordered = values.dropna().sort_values().to_list()
    shares = (1, 2) if swapped else (2, 1)
    return [ordered[(len(ordered) - 1) * share // 4] if ordered else None for share in shares]


def build_document(model: Servable | None) -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of every endpoint."""
    gets = {
        path: {"get": {"summary": what, "responses": {"200": {"description": what}}}} for path, what in GETS.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Scorer", "version": model.version if model else "0"},
        "paths": {
            "/invocations": {"post": _describe_invocations(model)},
            "/feedback": {"post": _describe_feedback()},
            **gets,
        },
        "components": {"schemas": {"Refusal": REFUSAL}, "securitySchemes": KEYS},
        "security": [{}, {"bearer": []}, {"key": []}],
    }


def _describe_invocations(model: Servable | None) -> dict[str, Any]:
    answer = {"predictions": [{"probability": 0.25, "class": 0}]}
    accepted = {
        JSON: {"schema": REQUEST, "example": build_example_request(model)},
        "text/csv": {"schema": TEXT, "example": ",".join(model.names) if model else ""},
    }
    scored = {
        "description": "probability and class of each row",
        "content": {JSON: {"schema": ANSWER, "example": answer}},
    }
    return {
        "summary": "score raw rows: dataframe_split, dataframe_records, instances, inputs, or CSV with a header",
        "parameters": [REQUEST_ID],
        "requestBody": {"required": True, "content": accepted},
        "responses": {"200": scored, **_describe_refusals("400", "401", "409", "413", "415", "500", "503", "504")},
    }


def _describe_feedback() -> dict[str, Any]:
    label = {"request_id": "the X-Request-Id of an answer", "row": 0, "label": 1}
    accepted = {JSON: {"schema": Label.model_json_schema(), "example": label}}
    on_record = {"description": "it is on record"}
    return {
        "summary": "the true class of a row that was answered; the same label again changes nothing",
        "requestBody": {"required": True, "content": accepted},
        "responses": {"200": on_record, **_describe_refusals("400", "401", "404", "413", "415", "503", "504")},
    }


def _describe_refusals(*statuses: str) -> dict[str, Any]:
    content = {JSON: {"schema": {"$ref": "#/components/schemas/Refusal"}}}
    return {status: {"description": REFUSED[status], "content": content} for status in statuses}


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


def render_page(model: Servable | None) -> str:
    """Return /docs as HTML."""
    paths = build_document(model)["paths"]
    lines = [
        f"<tr><td><code>{method.upper()} {path}</code></td><td>{html.escape(operation['summary'])}</td></tr>"
        for path, operations in paths.items()
        for method, operation in operations.items()
    ]
    served = f"{model.name} version {model.version}" if model else "no model yet"
    example = html.escape(json.dumps(build_example_request(model), indent=1))
    return PAGE.format(served=html.escape(served), table="".join(lines), example=example)

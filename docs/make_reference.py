"""make_reference: the schema, the comments of the configuration, every MLproject -> docs/reference.md.

A test compares the page with what this makes, so a setting without a line there cannot be.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import Config
from pipeline.steps import STEPS
from stepkit.paths import ROOT

PAGE = ROOT / "docs" / "reference.md"
FILES = {"": ROOT / "config.yaml", "random_forest_pipeline.": ROOT / "random_forest" / "rf_config.yaml"}
LINE = re.compile(r"^(?P<indent> *)(?P<key>[\w.@/-]+):(?P<value>[^#]*)(?:#\s*(?P<comment>.*))?$")
MORE = re.compile(r"^ +#\s*(?P<comment>.*)$")
LIMITS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}

ELSEWHERE = {
    "data.": "set by `data/*.yaml`",
    "random_forest_pipeline.random_forest.": "as in `sklearn.ensemble.RandomForestClassifier`",
}
"""What the keys mean whose lines have no comment, by how they begin."""

HEAD = """\
# Reference

Made by `make docs` from the schema, the comments of `config.yaml` and every `MLproject`. How artifacts, tags, metrics
and answers are called: [names.md](names.md).

## Settings

Keys of `config.yaml`; on the command line `mlflow run . -P hydra_options="KEY=VALUE ..."`. The keys of `serve` and
`drift` are also parameters of those projects.
"""
HOW = """\
Each is called as `mlflow run ./PROJECT -e ENTRY_POINT --env-manager local -P PARAMETER=VALUE`; `""` means: as
configured."""


def settings(file: Path, prefix: str) -> dict[str, tuple[str, str]]:
    """Return (default as written, meaning) by dotted key, for each line of a YAML file."""
    found: dict[str, tuple[str, str]] = {}
    path: list[tuple[int, str]] = []
    last = ""
    for line in file.read_text(encoding="utf-8").splitlines():
        if (more := MORE.match(line)) and last:
            found[last] = (found[last][0], f"{found[last][1]} {more['comment']}".strip())
        elif match := LINE.match(line):
            path = [part for part in path if part[0] < len(match["indent"])] + [(len(match["indent"]), match["key"])]
            last = prefix + ".".join(key for _, key in path)
            found[last] = (match["value"].strip(), (match["comment"] or "").strip())
    return found


def accepted(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Return in words what a JSON schema lets through."""
    if "$ref" in schema:
        return accepted(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
    if choices := schema.get("anyOf"):
        return " or ".join(dict.fromkeys(accepted(one, definitions) for one in choices))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {accepted(schema.get('items', {}), definitions)}"
    if schema.get("type") == "object":
        return "mapping"
    limits = " and ".join(f"{words} {schema[key]:,}" for key, words in LIMITS.items() if key in schema)
    return f"{TYPES.get(schema.get('type', ''), 'any')} {limits}".strip()


def keys(schema: dict[str, Any], definitions: dict[str, Any], prefix: str = "") -> dict[str, tuple[str, str]]:
    """Return (what is accepted, the schema's default) by dotted key, for every key that holds a value."""
    found: dict[str, tuple[str, str]] = {}
    for name, own in schema.get("properties", {}).items():
        inner = definitions[own["$ref"].rsplit("/", 1)[-1]] if "$ref" in own else own
        if inner.get("properties") and not inner.get("enum"):
            found |= keys(inner, definitions, f"{prefix}{name}.")
        else:
            default = json.dumps(own["default"]) if "default" in own else ""
            found[prefix + name] = (accepted(own, definitions), default)
    return found


def table_of_settings() -> list[str]:
    schema = Config.model_json_schema()
    known = {key: value for prefix, file in FILES.items() for key, value in settings(file, prefix).items()}
    lines = ["| key | default | accepts | meaning |", "| --- | --- | --- | --- |"]
    for key, (accepts, default_of_schema) in keys(schema, schema["$defs"]).items():
        default, meaning = known.get(key, (default_of_schema, ""))
        meaning = meaning or next((words for start, words in ELSEWHERE.items() if key.startswith(start)), "")
        lines.append(f"| `{key}` | {cell(default, code=True)} | {cell(accepts)} | {cell(meaning)} |")
    return lines


def cell(text: str, code: bool = False) -> str:
    escaped = text.replace("|", "\\|")
    return f"`{escaped}`" if code and escaped else escaped


def entry_points() -> list[str]:
    """One line for each parameter of each project of the repository."""
    lines = ["| project | entry point | parameter | default |", "| --- | --- | --- | --- |"]
    for folder in (".", *(step.name for step in STEPS), "serve", "drift", "simulate"):
        project = yaml.safe_load((ROOT / folder / "MLproject").read_text(encoding="utf-8"))
        for entry, described in project["entry_points"].items():
            for name, kind in described.get("parameters", {}).items():
                required = isinstance(kind, str) or "default" not in kind
                default = "required" if required else f"`{json.dumps(kind['default'])}`"
                lines.append(f"| `{folder}` | `{entry}` | `{name}` | {cell(default)} |")
    return lines


def page() -> str:
    return "\n".join([HEAD, *table_of_settings(), "", "## Entry points", "", HOW, "", *entry_points()]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

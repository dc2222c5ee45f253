"""make_reference: schema, comments of the configuration, every MLproject -> docs/reference.md.

A test compares the page with the output of this module, so the page always lists every setting.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import Config
from pipeline.steps import STEP_FOLDERS
from stepkit.paths import ROOT

PAGE = ROOT / "docs" / "reference.md"
CONFIG = ROOT / "config.yaml"
KEY_LINE = re.compile(r"^(?P<indent> *)(?P<key>[\w.@/-]+):(?P<value>[^#]*)(?:#\s*(?P<comment>.*))?$")
CONTINUED_COMMENT = re.compile(r"^ +#\s*(?P<comment>.*)$")
LIMITS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}

MEANINGS = {
    "data.": "set by `data/*.yaml`",
    "random_forest_pipeline.random_forest.": "as in `sklearn.ensemble.RandomForestClassifier`",
    "gradient_boosting_pipeline.gradient_boosting.": "as in `sklearn.ensemble.HistGradientBoostingClassifier`",
    "logistic_regression_pipeline.logistic_regression.": "as in `sklearn.linear_model.LogisticRegression`",
}
"""Meanings of keys without a comment, by the beginning of the key."""

INTRODUCTION = """\
# Reference

On this page you look up a setting or a parameter. `make docs` generates it from the schema, the comments of
`config.yaml` and every `MLproject`. [names.md](names.md) lists artifacts, tags, metrics and HTTP responses.

## Settings

Keys of `config.yaml`. Set one for a single run with `mlflow run . -P hydra_options="KEY=VALUE ..."`. The keys of
`serve` and `drift` are also parameters of those projects.
"""
ENTRY_POINTS = """\
## Entry points

Run one with `mlflow run ./PROJECT -e ENTRY_POINT --env-manager local -P PARAMETER=VALUE`. The default `""` means the
value of `config.yaml`.
"""


def read_settings(file: Path, prefix: str) -> dict[str, tuple[str, str]]:
    """Return (default as written, meaning) by dotted key, for each line of a YAML file."""
    settings: dict[str, tuple[str, str]] = {}
    path: list[tuple[int, str]] = []
    last = ""
    for line in file.read_text(encoding="utf-8").splitlines():
        if (continued := CONTINUED_COMMENT.match(line)) and last:
            settings[last] = (settings[last][0], f"{settings[last][1]} {continued['comment']}".strip())
        elif match := KEY_LINE.match(line):
            path = [part for part in path if part[0] < len(match["indent"])] + [(len(match["indent"]), match["key"])]
            last = prefix + ".".join(key for _, key in path)
            settings[last] = (match["value"].strip(), (match["comment"] or "").strip())
    return settings


def describe_values(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Return the values that a JSON schema accepts, in words."""
    if "$ref" in schema:
        return describe_values(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
    if choices := schema.get("anyOf"):
        return " or ".join(dict.fromkeys(describe_values(choice, definitions) for choice in choices))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {describe_values(schema.get('items', {}), definitions)}"
    if schema.get("type") == "object":
        return "mapping"
    limits = " and ".join(f"{words} {schema[key]:,}" for key, words in LIMITS.items() if key in schema)
    return f"{TYPES.get(schema.get('type', ''), 'any')} {limits}".strip()


def list_keys(schema: dict[str, Any], definitions: dict[str, Any], prefix: str = "") -> dict[str, tuple[str, str]]:
    """Return (accepted values, default of the schema) by dotted key, for every key that holds a value."""
    keys: dict[str, tuple[str, str]] = {}
    for name, part in schema.get("properties", {}).items():
        inner = definitions[part["$ref"].rsplit("/", 1)[-1]] if "$ref" in part else part
        if inner.get("properties") and not inner.get("enum"):
            keys |= list_keys(inner, definitions, f"{prefix}{name}.")
        else:
            default = json.dumps(part["default"]) if "default" in part else ""
            keys[prefix + name] = (describe_values(part, definitions), default)
    return keys


def list_settings_files() -> dict[str, Path]:
    """Return the files with settings by the beginning of their keys: config.yaml and those that it includes."""
    included = [entry for entry in yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["defaults"] if entry != "_self_"]
    groups = [(*key.split("@"), name) for entry in included for key, name in entry.items() if "@" in key]
    return {"": CONFIG, **{f"{package}.": ROOT / folder / f"{name}.yaml" for folder, package, name in groups}}


def render_settings() -> list[str]:
    """Return the lines of the table of settings."""
    schema = Config.model_json_schema()
    files = list_settings_files()
    settings = {key: value for prefix, file in files.items() for key, value in read_settings(file, prefix).items()}
    lines = ["| key | default | accepts | meaning |", "| --- | --- | --- | --- |"]
    for key, (accepts, default_of_schema) in list_keys(schema, schema["$defs"]).items():
        default, meaning = settings.get(key, (default_of_schema, ""))
        meaning = meaning or next((text for beginning, text in MEANINGS.items() if key.startswith(beginning)), "")
        lines.append(
            f"| `{key}` | {_format_cell(default, code=True)} | {_format_cell(accepts)} | {_format_cell(meaning)} |"
        )
    return lines


def _format_cell(text: str, code: bool = False) -> str:
    escaped = text.replace("|", "\\|")
    return f"`{escaped}`" if code and escaped else escaped


def render_entry_points() -> list[str]:
    """Return the lines of the table of parameters, one for each parameter of each project."""
    lines = ["| project | entry point | parameter | default |", "| --- | --- | --- | --- |"]
    for folder in (".", *STEP_FOLDERS, "serve", "drift", "simulate"):
        project = yaml.safe_load((ROOT / folder / "MLproject").read_text(encoding="utf-8"))
        for entry_point, declaration in project["entry_points"].items():
            for name, parameter in declaration.get("parameters", {}).items():
                required = isinstance(parameter, str) or "default" not in parameter
                default = "required" if required else f"`{json.dumps(parameter['default'])}`"
                lines.append(f"| `{folder}` | `{entry_point}` | `{name}` | {_format_cell(default)} |")
    return lines


def render_page() -> str:
    """Return the text of docs/reference.md."""
    return "\n".join([INTRODUCTION, *render_settings(), "", ENTRY_POINTS, *render_entry_points()]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render_page(), encoding="utf-8")

"""Checks of the spelling of a YAML file, and of a data set description (data/*.yaml) against its schema."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml
from pydantic import BaseModel, ValidationError

from stepkit.errors import BadParameter
from stepkit.paths import ROOT
from stepkit.table.columns import locate_problem, suggest_key

CODES = ("values", "positive", "negative")
NAMES = ("name", "source_target", "target", "id_column", "time_column", "leakage_checked")
REFERENCE = (
    "${ starts a reference to another key and ??? is a missing value. Names cannot contain them: rename it in the table"
)

NUMBER = re.compile(r"[-+]?(0|[1-9]\d*)(\.\d*([eE][-+]\d+)?)?|\.\d+")
"""Numbers that every YAML parser reads alike; excluded are 010 (octal), 1:30 (base 60), 1_000 and 1e5."""

TEXT_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.0+|\.\d*[1-9])?")
"""The same for a text column, in which 1.10 and 1.1 differ."""

LIKE_NUMBER = re.compile(r"[-+]?\.?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?")
EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")
"""Values that Hydra reads as a number and PyYAML reads as a text."""

ODD_NUMBER = re.compile(r"[-+]?(0[\dxb_].*|.*\d[:_]\d.*)")


def verify_yaml(path: Path, schema: type[BaseModel] | None = None) -> None:
    """Verify that a YAML file is well-formed and, with a `schema`, that its values have the right types.

    Keys of the schema may be missing.

    Raises:
        BadParameter: the file is not YAML, a key occurs twice, a code is read as another value, or a value has the
            wrong type; the message names file and line.
    """
    raw = path.read_bytes()
    try:
        loader = yaml.SafeLoader(raw.decode())
        root = loader.get_single_node()
        scalars = [*_iter_scalars(root)]
        if schema:
            _verify_as_written(root, scalars)
            _verify_types(root, loader.construct_document(root), schema)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        raise BadParameter(f"{name}: {_explain(error, raw)}.") from error


def _explain(error: Any, raw: bytes) -> str:
    mark = getattr(error, "problem_mark", None)
    position = error.start if isinstance(error, UnicodeDecodeError) else getattr(error, "position", 0)
    number = mark.line if mark else raw[:position].count(b"\n")
    line = [*raw.decode(errors="replace").split("\n"), ""][number]
    problem = (getattr(error, "problem", "") or str(error)).splitlines()[0]
    if isinstance(error, UnicodeDecodeError):
        problem = "the file is not UTF-8. Save it as UTF-8"
    elif "'\\t'" in problem or "\t" in line[: len(line) - len(line.lstrip())]:
        problem = "a tab, which YAML does not accept as a space. Replace it by spaces"
    elif "${" in line and "'{'" in problem:
        problem = REFERENCE
    elif type(error) is not yaml.MarkedYAMLError:  # errors of the library are of subclasses
        problem = f"not YAML: {problem}"
    return f"line {number + 1}: {problem}"


def _iter_scalars(
    node: yaml.Node | None, key: str = "", column: str = ""
) -> Iterator[tuple[str, str, yaml.ScalarNode]]:
    """Yield (key, column, node) for each key and value below `node`; the first is "" if the node is itself a key."""
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for name, value in node.value:
            if not isinstance(name, yaml.ScalarNode):
                _reject(name, "a key must be a text")
            if name.value in lines:
                _reject(name, f"the key '{name.value}' is also in line {lines[name.value]}")
            lines[name.value] = name.start_mark.line + 1
            within = name.value if key == "columns" else column
            yield "", within, name
            yield from _iter_scalars(value, name.value, within)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _iter_scalars(item, key, column)
    elif isinstance(node, yaml.ScalarNode):
        yield key, column, node


def _verify_as_written(root: yaml.Node | None, scalars: list[tuple[str, str, yaml.ScalarNode]]) -> None:
    if not isinstance(root, yaml.MappingNode):
        kind = "a list" if isinstance(root, yaml.SequenceNode) else "one value" if root else "an empty file"
        _reject(root, f"a description must be a mapping of keys to values (found {kind})")
    texts = {column for key, column, node in scalars if (key, node.value) == ("type", "text")}
    for key, column, node in scalars:
        if problem := _explain_misreading(key, node, column in texts):
            _reject(node, f"column '{column}': {problem}" if column else f"{key}: {problem}")


def _verify_types(root: Any, settings: dict[str, Any], schema: type[BaseModel]) -> None:
    try:
        schema.model_validate({key: settings[key] for key in schema.model_fields.keys() & settings.keys()})
    except ValidationError as error:
        # A missing key may be in another file of `defaults` or in config.yaml.
        problems = [
            problem for problem in error.errors() if problem["type"] != "missing" and "${" not in str(problem["input"])
        ]
        if problems:
            key, reason = locate_problem(problems)
            quotes = ". Write it in quotes" if problems[0]["type"] == "string_type" else ""
            _reject(_find_node(root, problems[0]["loc"]), f"{key}: {reason}{suggest_key(problems)}{quotes}")


def _explain_misreading(key: str, node: yaml.ScalarNode, is_text: bool) -> str:
    """Return the reason why YAML reads a name or a code as another value, or an empty text."""
    is_code = key in ("", *CODES)
    if ("${" in node.value or node.value == "???") and (is_code or key in NAMES):
        return f"{node.value}: {REFERENCE}"
    if node.style is not None or node.tag.endswith("null"):
        return ""
    if (is_code and node.tag.endswith("bool")) or node.tag.endswith("timestamp"):
        kind = "true or false" if node.tag.endswith("bool") else "a date"
        return f'{node.value} is read as {kind}. Write it in quotes: "{node.value}"'
    number_like = LIKE_NUMBER if key in CODES and not is_text else EXPONENT
    number = TEXT_NUMBER if key in CODES and is_text else NUMBER
    is_number = node.tag.endswith((":int", ":float")) or number_like.fullmatch(node.value)
    if is_number and (not number.fullmatch(node.value) if is_code else ODD_NUMBER.fullmatch(node.value)):
        return (
            f'{node.value} is read as another number. Write a text in quotes, "{node.value}", a number in plain digits'
        )
    return ""


def _find_node(node: yaml.Node, keys: tuple[Any, ...]) -> yaml.Node:
    """Return the node at a path of keys, or the last node of the path that exists."""
    for part in keys:
        if isinstance(node, yaml.MappingNode):
            node = next((value for name, value in node.value if name.value == str(part)), node)
    return node


def _reject(node: yaml.Node | None, problem: str) -> NoReturn:
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark if node else None)

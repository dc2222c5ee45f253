"""Check of a YAML file as it is written, and of a data set's description (data/*.yaml) against its schema."""

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
NAMES = ("name", "source_target", "target", "id_column")
REFERENCE = (
    "${ starts a reference to another key and ??? is a missing value: neither may be a name. Rename it in the table"
)

NUMBER = re.compile(r"[-+]?(0|[1-9]\d*)(\.\d*([eE][-+]\d+)?)?|\.\d+")
"""The codes that every YAML reader takes for the number that they show; not 010 (octal), 1:30 (base 60), 1_000, 1e5."""

TEXT_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.0+|\.\d*[1-9])?")
"""The same in a column of texts, where 1.10 is not 1.1."""

LIKE_NUMBER = re.compile(r"[-+]?\.?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?")
EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")
"""A number for Hydra, and a text for PyYAML."""

ODD_NUMBER = re.compile(r"[-+]?(0[\dxb_].*|.*\d[:_]\d.*)")


def verify_yaml(path: Path, schema: type[BaseModel] | None = None) -> None:
    """Check a YAML file, and as a description if there is a `schema`, of which it may have some keys only.

    Raises:
        BadParameter: not YAML, a key that occurs twice, a code that YAML reads as another value, or a value of the
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
        problem = "a tab, which YAML does not take for a blank. Replace it by blanks"
    elif "${" in line and "'{'" in problem:
        problem = REFERENCE
    elif type(error) is not yaml.MarkedYAMLError:  # the library's own have types of their own
        problem = f"not YAML: {problem}"
    return f"line {number + 1}: {problem}"


def _iter_scalars(
    node: yaml.Node | None, key: str = "", column: str = ""
) -> Iterator[tuple[str, str, yaml.ScalarNode]]:
    """Yield (its key, or nothing for a key itself; its column; the node) for each key and value below `node`."""
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for name, value in node.value:
            if not isinstance(name, yaml.ScalarNode):
                _reject(name, "a key is not a text")
            if name.value in lines:
                _reject(name, f"the key '{name.value}' is in line {lines[name.value]} too")
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
        found = "a list" if isinstance(root, yaml.SequenceNode) else "one value" if root else "an empty file"
        _reject(root, f"a description is a mapping of keys to values (found {found})")
    texts = {column for key, column, node in scalars if (key, node.value) == ("type", "text")}
    for key, column, node in scalars:
        if problem := _explain_misreading(key, node, column in texts):
            _reject(node, f"column '{column}': {problem}" if column else f"{key}: {problem}")


def _verify_types(root: Any, settings: dict[str, Any], schema: type[BaseModel]) -> None:
    try:
        schema.model_validate({key: settings[key] for key in schema.model_fields.keys() & settings.keys()})
    except ValidationError as error:
        # a key may be missing here: another file of `defaults` or config.yaml has it
        found = [one for one in error.errors() if one["type"] != "missing" and "${" not in str(one["input"])]
        if found:
            place, why = locate_problem(found)
            quotes = ". Write it in quotes" if found[0]["type"] == "string_type" else ""
            _reject(_find_node(root, found[0]["loc"]), f"{place}: {why}{suggest_key(found)}{quotes}")


def _explain_misreading(key: str, node: yaml.ScalarNode, is_text: bool) -> str:
    """Return the reason why a name or a code is not read as it is written, or an empty text."""
    is_code = key in ("", *CODES)
    if ("${" in node.value or node.value == "???") and (is_code or key in NAMES):
        return f"{node.value}: {REFERENCE}"
    if node.style is not None or node.tag.endswith("null"):
        return ""
    if (is_code and node.tag.endswith("bool")) or node.tag.endswith("timestamp"):
        read = "true or false" if node.tag.endswith("bool") else "a date"
        return f'{node.value} is read as {read}. Write it in quotes: "{node.value}"'
    like = LIKE_NUMBER if key in CODES and not is_text else EXPONENT
    number = TEXT_NUMBER if key in CODES and is_text else NUMBER
    is_number = node.tag.endswith((":int", ":float")) or like.fullmatch(node.value)
    if is_number and (not number.fullmatch(node.value) if is_code else ODD_NUMBER.fullmatch(node.value)):
        return (
            f'{node.value} is read as another number. Write a text in quotes, "{node.value}", a number in plain digits'
        )
    return ""


def _find_node(node: yaml.Node, keys: tuple[Any, ...]) -> yaml.Node:
    """Return the node at the end of a path of keys, or the last one on the way that is in the file."""
    for part in keys:
        if isinstance(node, yaml.MappingNode):
            node = next((value for name, value in node.value if name.value == str(part)), node)
    return node


def _reject(node: yaml.Node | None, problem: str) -> NoReturn:
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark if node else None)

"""Fingerprint of a step: the named parts on which its result depends. Equal parts give an equal result."""

from __future__ import annotations

import ast
import hashlib
import json
import threading
from functools import cache
from pathlib import Path
from typing import Any

from stepkit.paths import ROOT

Parts = dict[str, str]
"""Parts of a fingerprint by name: "code:preprocess/run.py", "parameter:test_size", "input:raw_data.csv of download"."""

CODE, PARAMETER, INPUT, OUTSIDE = "code", "parameter", "input", "outside"
MAX_VALUE_LENGTH = 60
PROJECT_FILES = ("MLproject", "conda.yml")

_parsing = threading.Lock()
"""Lock around ast.parse, because jobs run in threads. Python 3.11 counts the depth of all trees under construction in
one place, and raises SystemError if a garbage collection lets another thread start one (python/cpython#106905)."""


def compute_digest(text: str | bytes) -> str:
    """Return the sha256 of a text as hexadecimal digits."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def compute_key(parts: Parts) -> str:
    """Return the digest by which runs with the same parts are found, without the external state.

    The external state is compared part by part, because some changes of it do not matter.
    """
    internal = {name: text for name, text in parts.items() if get_kind(name) != OUTSIDE}
    return compute_digest(json.dumps(internal, sort_keys=True))


def get_kind(name: str) -> str:
    """Return the kind of a part: code, parameter, input or outside."""
    return name.split(":", 1)[0]


def compute_code_parts(folder: str, *packed: str) -> Parts:
    """Return the digest of each file of this repository that a step's process executes.

    Args:
        folder: folder of the step.
        packed: folders whose files the step copies into its artifacts without importing them.
    """
    step_folder = ROOT / folder
    files = {*step_folder.rglob("*.py"), *(step_folder / name for name in PROJECT_FILES)}
    files |= {path for packed_folder in packed for path in (ROOT / packed_folder).rglob("*.py")}
    imported = set().union(*(_find_reached_files(path) for path in step_folder.rglob("*.py")))
    return {f"{CODE}:{path.relative_to(ROOT)}": _compute_file_digest(path) for path in sorted(files | imported)}


def flatten(values: dict[str, Any], prefix: str = "", depth: int = 1) -> dict[str, str]:
    """Return nested settings as texts by dotted name. Dictionaries below `depth` levels become JSON."""
    settings: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, dict) and depth:
            settings |= flatten(value, f"{prefix}{name}.", depth - 1)
        else:
            settings[prefix + name] = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return settings


def describe_differences(before: Parts, now: Parts) -> list[str]:
    """Return in words what changed between two fingerprints, such as "test_size 0.3 -> 0.2".

    Changed inputs are summarized by the step that made them: "output of segregate changed".
    """
    changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    changes = [_describe_change(name, before.get(name), now.get(name)) for name in changed if get_kind(name) != INPUT]
    steps = dict.fromkeys(name.rsplit(" of ", 1)[1] for name in changed if get_kind(name) == INPUT)
    return [f"output of {' and '.join(steps)} changed", *changes] if steps else changes


def _describe_change(name: str, before: str | None, now: str | None) -> str:
    subject = name.split(":", 1)[1]
    if before is None or now is None:
        return f"{subject} {'is new' if before is None else 'was removed'}"
    if get_kind(name) == CODE or max(len(before), len(now)) > MAX_VALUE_LENGTH:
        return f"{subject} changed"
    return f"{subject} {before} -> {now}"


@cache
def _find_reached_files(path: Path) -> frozenset[Path]:
    """Return the files of this repository that `path` imports, directly or through others."""
    reached: set[Path] = set()
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file not in reached:
            reached.add(file)
            waiting += _find_imported_files(file)
    return frozenset(reached)


@cache
def _find_imported_files(path: Path) -> list[Path]:
    modules: set[str] = set()
    with _parsing:
        tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules |= {f"{node.module}", *(f"{node.module}.{alias.name}" for alias in node.names)}
    files = (ROOT.joinpath(*module.split(".")).with_suffix(".py") for module in modules)
    return [file for file in files if file.is_file()]


@cache
def _compute_file_digest(path: Path) -> str:
    """Return the digest of a file's text, with line ends normalized because git may change them."""
    return compute_digest(path.read_bytes().replace(b"\r\n", b"\n"))

"""What the result of a step depends on, named part by part: equal parts, equal result."""

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
"""Each part of a fingerprint by its name: "code:preprocess/run.py", "parameter:test_size",
"input:raw_data.csv of download"."""

CODE, PARAMETER, INPUT, OUTSIDE = "code", "parameter", "input", "outside"
MAX_VALUE_LENGTH = 60
PROJECT_FILES = ("MLproject", "conda.yml")

_parsing = threading.Lock()
"""Jobs run in threads, and Python 3.11 counts the depth of all trees that are being made in one place: it raises
SystemError where a garbage collection lets another thread begin one (python/cpython#106905)."""


def compute_digest(text: str | bytes) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def compute_key(parts: Parts) -> str:
    """Return the digest that finds runs with the same parts; what lies outside of a run is compared by itself."""
    return compute_digest(
        json.dumps({name: text for name, text in parts.items() if get_kind(name) != OUTSIDE}, sort_keys=True)
    )


def get_kind(name: str) -> str:
    return name.split(":", 1)[0]


def compute_code_parts(folder: str, *packed: str) -> Parts:
    """Digests of all that a step's process executes of this repository: its own folder and what that imports.

    Args:
        packed: folders whose files the step puts into what it publishes, without importing them.
    """
    own = ROOT / folder
    files = {*own.rglob("*.py"), *(own / name for name in PROJECT_FILES)}
    files |= {path for one in packed for path in (ROOT / one).rglob("*.py")}
    reached = set().union(*(_find_reached_files(path) for path in own.rglob("*.py")))
    return {f"{CODE}:{path.relative_to(ROOT)}": _compute_file_digest(path) for path in sorted(files | reached)}


def flatten(values: dict[str, Any], prefix: str = "", depth: int = 1) -> dict[str, str]:
    """Return nested settings as texts by dotted name; what is nested deeper than `depth` levels stands as JSON."""
    found: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, dict) and depth:
            found |= flatten(value, f"{prefix}{name}.", depth - 1)
        else:
            found[prefix + name] = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return found


def describe_differences(before: Parts, now: Parts) -> list[str]:
    """Return, in words, what changed from one fingerprint to the other: "test_size 0.3 -> 0.2".

    Inputs are named by the step that they are of: "output of segregate changed".
    """
    changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    words = [_describe_change(name, before.get(name), now.get(name)) for name in changed if get_kind(name) != INPUT]
    steps = dict.fromkeys(name.rsplit(" of ", 1)[1] for name in changed if get_kind(name) == INPUT)
    return [f"output of {' and '.join(steps)} changed", *words] if steps else words


def _describe_change(name: str, before: str | None, now: str | None) -> str:
    subject = name.split(":", 1)[1]
    if before is None or now is None:
        return f"{subject} {'is new' if before is None else 'is gone'}"
    if get_kind(name) == CODE or max(len(before), len(now)) > MAX_VALUE_LENGTH:
        return f"{subject} changed"
    return f"{subject} {before} -> {now}"


@cache
def _find_reached_files(path: Path) -> frozenset[Path]:
    """The files of this repository that `path` imports, directly or through others."""
    seen: set[Path] = set()
    waiting = [path]
    while waiting:
        here = waiting.pop()
        if here not in seen:
            seen.add(here)
            waiting += _find_imported_files(here)
    return frozenset(seen)


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
    """The digest of a file's text; line ends are no part of it, as git may change them."""
    return compute_digest(path.read_bytes().replace(b"\r\n", b"\n"))

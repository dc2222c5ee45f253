"""docs/faults.md names tests that are there, and docs/names.md every name that the code gives to the outside."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.http.refusals import REFUSALS
from stepkit.paths import ROOT
from tests.support.repo import get_name, list_code, parse_tree

FAULTS = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
NAMES = (ROOT / "docs" / "names.md").read_text(encoding="utf-8")
LISTED = set(re.findall(r"`([^`\n]+)`", NAMES))
"""Every text between backticks."""

TABLES, UNPROVEN = FAULTS.split("## Not proven by a test")
REFERENCE = re.compile(r"`(tests/[\w/]+\.py)::([\w:]+)`")
ROWS = [line for line in TABLES.splitlines() if line.startswith("| ") and not line.startswith(("| fault", "| ---"))]

KINDS = {"Counter": "_total", "Gauge": "", "Histogram": ""}
"""What prometheus_client appends to a name, by the kind of metric."""


def list_tests(path: Path) -> set[str]:
    """The tests of a file: test_name, or Class::test_name."""
    found: set[str] = set()
    for node in parse_tree(path).body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return {name for name in found if name.rpartition("::")[2].startswith("test_")}


def iter_calls(name: str, tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            yield node


def list_metrics() -> set[str]:
    """The metrics of the scorer, as Prometheus reads them."""
    tree = parse_tree(ROOT / "serve" / "http" / "metrics.py")
    return {f"{get_text(one.args[0])}{end}" for kind, end in KINDS.items() for one in iter_calls(kind, tree)}


def get_text(node: ast.expr) -> str:
    """The text that an expression is, "" if it is computed."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def read_constants(path: Path) -> dict[str, str]:
    """The texts that a module gives names to."""
    found: dict[str, str] = {}
    for node in parse_tree(path).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = get_text(node.value)
    return found


def read_imported_constants(path: Path) -> dict[str, str]:
    """The texts that a module takes from another one of this repository by their names."""
    found: dict[str, str] = {}
    for node in ast.walk(parse_tree(path)):
        if isinstance(node, ast.ImportFrom):
            source = ROOT / f"{str(node.module).replace('.', '/')}.py"
            theirs = read_constants(source) if source.is_file() else {}
            found |= {one.asname or one.name: theirs[one.name] for one in node.names if one.name in theirs}
    return found


def iter_environment_reads(tree: ast.AST) -> Iterator[ast.expr]:
    """What os.environ is asked for: by get, pop or [], and by `in`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.environ.get", "os.environ.pop"):
            yield node.args[0]
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            if ast.unparse(node.value) == "os.environ":
                yield node.slice
        elif isinstance(node, ast.Compare) and ast.unparse(node.comparators[0]) == "os.environ":
            yield node.left


def list_variables() -> set[str]:
    """Every environment variable that the code reads by a name that stands in it."""
    found: set[str] = set()
    for path in list_code():
        if not get_name(path).startswith("benchmarks/"):  # what measures the product is no part of it
            known = read_constants(path) | read_imported_constants(path)
            asked = iter_environment_reads(parse_tree(path))
            found |= {known.get(node.id, "") if isinstance(node, ast.Name) else get_text(node) for node in asked}
    return found - {""}


@pytest.mark.parametrize("file", sorted({file for file, _ in REFERENCE.findall(FAULTS)}))
def test_every_test_that_the_table_names_is_there(file: str) -> None:
    path = ROOT / file
    assert path.is_file()
    named = {test for one, test in REFERENCE.findall(FAULTS) if one == file}
    assert named - list_tests(path) == set()


def test_every_row_of_the_table_names_a_test() -> None:
    assert len(ROWS) > 100
    assert [row for row in ROWS if not REFERENCE.search(row.rsplit(" | ", 1)[-1])] == []


def test_what_no_test_proves_claims_none() -> None:
    assert REFERENCE.findall(UNPROVEN) == []


def test_every_metric_of_the_scorer_is_listed() -> None:
    assert len(list_metrics()) > 10
    assert list_metrics() - LISTED == set()
    assert {name for name in LISTED if re.fullmatch(r"scorer_\w+", name)} - list_metrics() == set()


def test_every_error_code_of_the_scorer_is_listed() -> None:
    assert {*REFUSALS, "BAD_REQUEST"} - LISTED == set()


@pytest.mark.slow
def test_every_environment_variable_that_is_read_is_listed() -> None:
    assert {"PREDICTION_LOG_URL", "SCORER_API_KEY", "DRIFT_ALERTS", "PROMETHEUS_MULTIPROC_DIR"} <= list_variables()
    assert list_variables() - LISTED == set()

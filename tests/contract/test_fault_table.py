"""docs/faults.md names existing tests, and docs/names.md lists every public name of the code."""

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
SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
LISTED = set(re.findall(r"`([^`\n]+)`", NAMES))
"""Texts between backticks."""

TABLES, UNPROVEN = FAULTS.split("## Not proven by a test")
REFERENCE = re.compile(r"`(tests/[\w/]+\.py)::([\w:]+)`")
ROWS = [line for line in TABLES.splitlines() if line.startswith("| ") and not line.startswith(("| fault", "| ---"))]

KINDS = {"Counter": "_total", "Gauge": "", "Histogram": ""}
"""Text that prometheus_client appends to a name, by the kind of metric."""


def list_tests(path: Path) -> set[str]:
    """Return the tests of a file: test_name, or Class::test_name."""
    functions: set[str] = set()
    for node in parse_tree(path).body:
        if isinstance(node, ast.ClassDef):
            functions |= {f"{node.name}::{member.name}" for member in node.body if isinstance(member, ast.FunctionDef)}
        elif isinstance(node, ast.FunctionDef):
            functions.add(node.name)
    return {name for name in functions if name.rpartition("::")[2].startswith("test_")}


def iter_calls(name: str, tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            yield node


def list_metrics() -> set[str]:
    """Return the metrics of the scorer, by their names in Prometheus."""
    tree = parse_tree(ROOT / "serve" / "http" / "metrics.py")
    return {f"{get_text(call.args[0])}{end}" for kind, end in KINDS.items() for call in iter_calls(kind, tree)}


def get_text(node: ast.expr) -> str:
    """Return the text of a constant, "" for any other expression."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def read_constants(path: Path) -> dict[str, str]:
    """Return the texts of the constants of a module, by their names."""
    constants: dict[str, str] = {}
    for node in parse_tree(path).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            constants[node.targets[0].id] = get_text(node.value)
    return constants


def read_imported_constants(path: Path) -> dict[str, str]:
    """Return the texts of the constants that a module imports from this repository, by their names there."""
    constants: dict[str, str] = {}
    for node in ast.walk(parse_tree(path)):
        if isinstance(node, ast.ImportFrom):
            source = ROOT / f"{str(node.module).replace('.', '/')}.py"
            exported = read_constants(source) if source.is_file() else {}
            constants |= {name.asname or name.name: exported[name.name] for name in node.names if name.name in exported}
    return constants


def iter_environment_reads(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield the names that a module reads from os.environ: by get, pop or [], and by `in`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.environ.get", "os.environ.pop"):
            yield node.args[0]
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            if ast.unparse(node.value) == "os.environ":
                yield node.slice
        elif isinstance(node, ast.Compare) and ast.unparse(node.comparators[0]) == "os.environ":
            yield node.left


def list_variables() -> set[str]:
    """Return every environment variable that the code reads by a constant name."""
    variables: set[str] = set()
    for path in list_code():
        if not get_name(path).startswith("benchmarks/"):  # benchmarks are not part of the product
            constants = read_constants(path) | read_imported_constants(path)
            reads = iter_environment_reads(parse_tree(path))
            variables |= {
                constants.get(node.id, "") if isinstance(node, ast.Name) else get_text(node) for node in reads
            }
    return variables - {""}


@pytest.mark.parametrize("file", sorted({file for file, _ in REFERENCE.findall(FAULTS)}))
def test_every_test_that_the_table_names_exists(file: str) -> None:
    path = ROOT / file
    assert path.is_file()
    listed = {test for path_in_table, test in REFERENCE.findall(FAULTS) if path_in_table == file}
    assert listed - list_tests(path) == set()


@pytest.mark.parametrize("test", sorted(set(re.findall(r"`(test_\w+)`", SECURITY))))
def test_every_test_that_the_page_on_security_names_exists(test: str) -> None:
    files = (ROOT / "tests").rglob("test_*.py")
    assert any(f"def {test}(" in file.read_text(encoding="utf-8") for file in files)


def test_every_row_of_the_table_names_a_test() -> None:
    assert len(ROWS) > 100
    assert [row for row in ROWS if not REFERENCE.search(row.rsplit(" | ", 1)[-1])] == []


def test_a_row_of_unproven_faults_names_no_test() -> None:
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

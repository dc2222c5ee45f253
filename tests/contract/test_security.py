"""Code must not load untrusted pickles, build SQL from text, load YAML that runs code, or send usage data."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stepkit.paths import ROOT
from tests.support.repo import get_first_parts, get_name, list_code, list_imports, parse_tree

RUNS_CODE = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "torch"}
"""Modules whose loaders run code that the file brings."""

LOADERS = {"read_pickle", "unsafe_load", "full_load"}
SAFE_YAML = {"SafeLoader", "CSafeLoader", "_YamlLoader"}
STATEMENTS = {"execute", "exec_driver_sql", "text", "executemany", "executescript", "read_sql", "read_sql_query"}
"""Functions whose first argument is SQL."""

FIXED = {
    # Table names from SQLite's catalogue; SQL does not accept a name as a parameter.
    "backup/databases.py": {'SELECT count(*) FROM "{}"', 'SELECT version_num FROM "{}"'},
    "prediction_log/engine.py": {"PRAGMA {}={}"},
    "prediction_log/schema.py": {"SELECT version_num FROM {}"},
}
"""Statements made of constants of their own module: names and settings, which a parameter cannot be."""

Finder = Callable[[ast.Module], list[str]]


def iter_calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call with the last part of its name: `execute` for `connection.execute(...)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            yield name, node


def find_unsafe_loads(tree: ast.Module) -> list[str]:
    """Return the calls that unpickle, or read YAML with a loader that creates objects."""
    unsafe = []
    for name, call in iter_calls(tree):
        words = {word.arg: word.value for word in call.keywords}
        allowed = words.get("allow_pickle")
        if name in LOADERS or (isinstance(allowed, ast.Constant) and allowed.value):
            unsafe.append(ast.unparse(call))
        if ast.unparse(call.func) == "yaml.load":
            loader = ast.unparse(words.get("Loader") or call.args[1] if len(call.args) > 1 else ast.Constant(None))
            if loader.rpartition(".")[2] not in SAFE_YAML:
                unsafe.append(ast.unparse(call))
    return unsafe


def find_built_statements(tree: ast.Module) -> list[str]:
    """Return the SQL built from parts by f-strings, +, %, format or join; {} replaces a part."""
    firsts = [call.args[0] for name, call in iter_calls(tree) if name in STATEMENTS and call.args]
    return [format_statement(first) for first in firsts if is_built(first)]


def is_built(node: ast.expr) -> bool:
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        return any(isinstance(part, ast.Constant | ast.JoinedStr) and part for part in ast.walk(node))
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("format", "join")


def format_statement(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return ast.unparse(node)


def find_hits(finder: Finder) -> dict[str, list[str]]:
    return {get_name(path): findings for path in list_code() if (findings := finder(parse_tree(path)))}


def uses_sql(path: Path) -> bool:
    return bool(get_first_parts(list_imports(path)) & {"sqlalchemy", "sqlite3", "psycopg", "alembic"})


def test_no_module_that_unpickles_is_imported() -> None:
    paths = [path for path in list_code() if not get_name(path).startswith("benchmarks/")]
    imports = {get_name(path): wrong for path in paths if (wrong := get_first_parts(list_imports(path)) & RUNS_CODE)}
    assert imports == {}


def test_nothing_is_loaded_that_can_run_code() -> None:
    assert find_hits(find_unsafe_loads) == {}


def test_sql_is_never_built_from_text() -> None:
    asking = [path for path in list_code() if uses_sql(path)]
    assert len(asking) > 5
    statements = {get_name(path): set(find_built_statements(parse_tree(path))) for path in asking}
    assert {name: wrong for name, built in statements.items() if (wrong := built - FIXED.get(name, set()))} == {}


@pytest.mark.parametrize(
    "line",
    [
        'connection.execute(f"DELETE FROM t WHERE id = {given}")',
        'connection.execute(text(f"SELECT {given}"))',
        'connection.execute("SELECT " + given)',
        'cursor.execute("SELECT %s" % given)',
        'connection.exec_driver_sql("SELECT {}".format(given))',
        'pd.read_sql(f"SELECT * FROM {given}", engine)',
    ],
)
def test_a_statement_built_from_text_would_be_found(line: str) -> None:
    assert len(find_built_statements(ast.parse(line))) == 1


@pytest.mark.parametrize(
    "line",
    [
        'connection.execute(text("SELECT :key"), {"key": given})',
        "connection.execute(select(columns.row).where(columns.id == given))",
        'cursor.execute("SELECT 1")',
    ],
)
def test_a_statement_with_parameters_is_fine(line: str) -> None:
    assert find_built_statements(ast.parse(line)) == []


@pytest.mark.parametrize(
    "line",
    ["pd.read_pickle(path)", "np.load(path, allow_pickle=True)", "yaml.load(text, yaml.Loader)", "yaml.unsafe_load(x)"],
)
def test_an_unsafe_load_would_be_found(line: str) -> None:
    assert len(find_unsafe_loads(ast.parse(line))) == 1


def test_a_safe_load_is_fine() -> None:
    assert find_unsafe_loads(ast.parse("yaml.load(text, yaml.CSafeLoader); np.load(path); yaml.safe_load(x)")) == []


def imports_onnxruntime(path: Path) -> bool:
    if "onnxruntime" not in path.read_text(encoding="utf-8") or get_name(path).startswith("benchmarks/"):
        return False
    return path == ROOT / "pipeline" / "preloaded.py" or "onnxruntime" in list_imports(path)  # the former by name


def list_files_left_by(program: str, folder: Path) -> list[str]:
    """Return the files that a program leaves in its temporary folder. ONNX Runtime sends no telemetry in CI."""
    env = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env={**env, "TMPDIR": str(folder)}, check=True)
    return [path.name for path in folder.iterdir()]


@pytest.mark.slow
@pytest.mark.parametrize("path", [*filter(imports_onnxruntime, list_code())], ids=get_name)
def test_onnx_runtime_tells_its_makers_nothing(path: Path, tmp_path: Path) -> None:
    module = get_name(path).removesuffix(".py").replace("/", ".")
    assert list_files_left_by(f"import sys, {module}; assert 'onnxruntime' in sys.modules", tmp_path) == []


@pytest.mark.slow
def test_onnx_runtime_by_itself_would_leave_a_trace_of_its_telling(tmp_path: Path) -> None:
    assert list_files_left_by("import onnxruntime", tmp_path) == [".ses"]

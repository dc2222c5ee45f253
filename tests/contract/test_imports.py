"""Imports run one way: main.py -> pipeline, step -> stepkit; nothing imports main.py, and only DAGs import Airflow."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from pipeline.config import MODEL_STEPS
from pipeline.steps import STEP_FOLDERS
from stepkit.paths import ROOT
from tests.support.imports import build_module_graph, build_room_graph, find_circle, get_room
from tests.support.repo import get_first_parts, get_name, list_code, list_imports, parse_tree

ALLOWED = {
    **{folder: {folder, "stepkit"} for folder in STEP_FOLDERS},
    **{folder: {folder, "training", "stepkit"} for folder in MODEL_STEPS},
    "training": {"training", "stepkit"},
    "stepkit": {"stepkit"},
    "pipeline": {"pipeline", "stepkit"},
    "simulate": {"simulate", "stepkit"},
    "prediction_log": {"prediction_log", "stepkit"},
    "serve": {"serve", "prediction_log", "stepkit"},
    "ci": {"ci", "pipeline", "stepkit"},
    "drift": {"drift", "prediction_log", "stepkit"},
    "loop": {"loop", "drift", "prediction_log", "serve", "simulate", "stepkit"},
    "backup": {"backup", "stepkit"},
    "main.py": {"pipeline", "stepkit"},
}
"""The parts of the repository that each folder of the map, and main.py, may import."""

MOST_MODULES = 15

OURS = {
    "main",
    "training",
    "ci",
    "pipeline",
    "stepkit",
    "simulate",
    "prediction_log",
    "serve",
    "drift",
    "loop",
    "backup",
    "benchmarks",
    "tests",
    *STEP_FOLDERS,
}


def get_part(path: Path) -> str:
    """Return the folder of the map that contains a file; for a file in the root, the file itself."""
    return path.relative_to(ROOT).parts[0]


def list_part_imports(part: str) -> dict[str, set[str]]:
    """Return, for each file of a part, the parts of the repository that it imports."""
    return {
        get_name(path): get_first_parts(list_imports(path)) & OURS for path in list_code() if get_part(path) == part
    }


@pytest.mark.parametrize("part", ALLOWED)
def test_a_part_imports_only_what_the_map_allows(part: str) -> None:
    imports = list_part_imports(part)
    assert imports, f"no code in {part}"
    assert {file: wrong for file, parts in imports.items() if (wrong := parts - ALLOWED[part])} == {}


def test_nothing_imports_main() -> None:
    everything = [*list_code(), *(ROOT / "tests").rglob("*.py")]
    assert [get_name(path) for path in everything if "main" in get_first_parts(list_imports(path))] == []


def test_only_the_command_line_starts_hydra() -> None:
    started = [
        get_name(path)
        for path in list_code()
        if any(isinstance(node, ast.Import) and node.names[0].name == "hydra" for node in ast.walk(parse_tree(path)))
        or "hydra.main" in list_imports(path)
    ]
    assert started == ["pipeline/cli.py"]


@pytest.mark.parametrize("part", [*STEP_FOLDERS, "stepkit", "pipeline", "simulate"])
def test_airflow_is_not_imported(part: str) -> None:
    files = [path for path in list_code() if get_part(path) == part]
    assert [get_name(path) for path in files if "airflow" in get_first_parts(list_imports(path))] == []


def test_only_dags_import_airflow() -> None:
    importing = [get_name(path) for path in list_code() if "airflow" in get_first_parts(list_imports(path))]
    assert importing
    assert [name for name in importing if not name.startswith("drift/dags/")] == []


def list_loaded_packages(path: Path) -> set[str]:
    """Return the packages that a module imports at module level."""
    return {
        name.partition(".")[0]
        for node in parse_tree(path).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }


@pytest.mark.parametrize("path", sorted((ROOT / "drift" / "dags").glob("*.py")), ids=lambda path: path.name)
def test_a_dag_loads_nothing_but_airflow_and_what_python_has(path: Path) -> None:
    """The scheduler reads these files repeatedly, and Airflow's environment has none of the project's packages."""
    assert list_loaded_packages(path) - {*sys.stdlib_module_names} <= {"airflow", "project"}


@pytest.mark.slow
def test_batch_scores_without_mlflow_and_pandas() -> None:
    """They would take several times the memory that batch scoring needs, for its whole duration."""
    code = "import sys, serve.batch.run; print({'mlflow', 'pandas', 'sklearn'} & {*sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "set()"


def test_the_exported_predictor_imports_nothing_of_the_repository() -> None:
    assert get_first_parts(list_imports(ROOT / "training" / "served_model.py")) & OURS == set()


def test_no_module_and_no_room_is_in_a_circle_of_imports() -> None:
    modules = build_module_graph()
    assert len(modules) > 100
    assert find_circle(modules) == []
    assert find_circle(build_room_graph(modules)) == []


def test_a_circle_of_imports_is_found() -> None:
    assert set(find_circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}


def test_a_room_has_at_most_15_modules() -> None:
    rooms = Counter(get_room(module) for module in build_module_graph())
    assert {room: modules for room, modules in rooms.items() if modules > MOST_MODULES} == {}


def test_one_module_handles_signals_and_it_needs_python_alone() -> None:
    """Airflow's environment, the loop and the steps share this module."""
    handling = [get_name(path) for path in list_code() if "signal.signal(" in path.read_text()]
    assert handling == ["stepkit/processes.py"]
    assert list_loaded_packages(ROOT / "stepkit" / "processes.py") <= {*sys.stdlib_module_names}

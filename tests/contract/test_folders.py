"""Every folder of the map is complete, and the code follows the few rules of form."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from pipeline.steps import STEP_FOLDERS
from stepkit.paths import ROOT
from tests.support.repo import PROJECT_FOLDERS, get_name, iter_functions, list_code, parse_tree

LONGEST_FUNCTION = 40


@pytest.mark.parametrize("folder", sorted({*STEP_FOLDERS, *PROJECT_FOLDERS}))
def test_a_project_folder_holds_what_mlflow_needs(folder: str) -> None:
    missing = [name for name in ("MLproject", "conda.yml", "run.py") if not (ROOT / folder / name).is_file()]
    assert missing == []


@pytest.mark.parametrize("name", ["MLproject", "conda.yml", "config.yaml", "main.py"])
def test_the_root_holds_the_four_files_to_read_first(name: str) -> None:
    assert (ROOT / name).is_file()


def test_no_folder_is_a_regular_package() -> None:
    """A regular package named docker or evaluate would shadow an installed package."""
    assert [get_name(path) for path in list_code() if path.name == "__init__.py"] == []


def test_every_folder_with_a_project_is_known() -> None:
    folders = {path.parent.name for path in ROOT.glob("[a-z]*/MLproject")}
    assert folders == set(PROJECT_FOLDERS)


def test_no_function_is_longer_than_a_screen() -> None:
    lengths = {
        f"{get_name(path)}:{function.name}": (function.end_lineno or 0) - function.lineno + 1
        for path in list_code()
        for function in iter_functions(parse_tree(path))
    }
    assert lengths
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


def test_every_module_says_what_it_is_for() -> None:
    modules = [*list_code(), *(ROOT / "tests").rglob("*.py")]
    public = [path for path in modules if not path.name.startswith("_")]
    assert [get_name(path) for path in public if not ast.get_docstring(parse_tree(path))] == []


def test_every_function_is_typed() -> None:
    untyped = [
        f"{get_name(path)}:{function.lineno} {function.name}"
        for path in list_code()
        for function in iter_functions(parse_tree(path))
        if function.returns is None
    ]
    assert untyped == []


def test_the_code_is_found(tmp_path: Path) -> None:
    names = {get_name(path) for path in list_code()}
    assert {"main.py", "stepkit/table/tables.py", "pipeline/steps.py", "preprocess/run.py"} <= names
    assert not [name for name in names if name.startswith(("tests/", ".venv/", "mlruns/"))]

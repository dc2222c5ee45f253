"""Facts about the repository for the contract tests: its files, projects and imports."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pipeline.steps import STEP_FOLDERS
from stepkit.paths import ROOT

NOT_OURS = {"mlruns", "mlartifacts", "outputs", "multirun"}
PROJECT_FOLDERS = tuple(
    folder for folder in (*STEP_FOLDERS, "simulate", "serve", "drift") if (ROOT / folder / "MLproject").is_file()
)
"""Folders of the map that can be run with `mlflow run ./FOLDER`."""


@cache
def list_files() -> tuple[Path, ...]:
    """Return every file that git tracks or would track, so that a fault in a new file is found before the commit."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return tuple(path for name in sorted(set(listed.split("\0"))) if name and (path := ROOT / name).is_file())


@cache
def list_code() -> tuple[Path, ...]:
    """Return every Python file of the repository except the tests."""
    paths = [*ROOT.glob("*.py"), *ROOT.glob("[a-z]*/**/*.py")]
    return tuple(sorted(path for path in paths if path.relative_to(ROOT).parts[0] not in {"tests", *NOT_OURS}))


def get_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def parse_tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def list_imports(path: Path) -> frozenset[str]:
    """Return every module that a file imports, in any scope: `from a import b` gives a and a.b."""
    modules: set[str] = set()
    for node in ast.walk(parse_tree(path)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{get_name(path)}:{node.lineno} imports relatively"
            modules |= {f"{node.module}", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(modules)


def get_first_parts(modules: frozenset[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


def find_file(module: str) -> Path | None:
    """Return the file of a module of this repository, or None for any other module."""
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    return path if path.is_file() else None


def find_reachable(*start: Path) -> set[Path]:
    """Return the files of this repository that `start` imports, directly or indirectly, and `start` itself."""
    reached: set[Path] = set()
    waiting = list(start)
    while waiting:
        current = waiting.pop()
        if current not in reached:
            reached.add(current)
            waiting += [path for module in list_imports(current) if (path := find_file(module))]
    return reached


@dataclass(frozen=True)
class Project:
    """The entry point `main` of an MLproject file."""

    name: str
    parameters: dict[str, Any]
    command: str

    @property
    def defaults(self) -> dict[str, Any]:
        """Defaults of the parameters that have one."""
        entries = {name: entry for name, entry in self.parameters.items() if isinstance(entry, dict)}
        return {name: entry["default"] for name, entry in entries.items() if "default" in entry}


@cache
def read_project(folder: str) -> Project:
    loaded = read_yaml(ROOT / folder / "MLproject")
    entry = loaded["entry_points"]["main"]
    return Project(loaded["name"], entry["parameters"], entry["command"])


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def iter_functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))

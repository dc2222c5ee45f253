"""Every conda.yml, requirements/*.in and the locks have the same version of each package, and no package is missing."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stepkit.paths import ROOT
from tests.support.repo import (
    PROJECT_FOLDERS,
    find_file,
    find_reachable,
    get_first_parts,
    get_name,
    list_code,
    list_imports,
    read_yaml,
)

pytestmark = pytest.mark.slow

FOLDERS = (".", *PROJECT_FOLDERS)
REQUIREMENTS = ROOT / "requirements"
LOCKS = sorted(REQUIREMENTS.glob("*.lock"))
INPUTS = sorted(REQUIREMENTS.glob("*.in"))
EXACT = re.compile(r"^([A-Za-z0-9._-]+)(?:\[([\w,.-]+)\])?==(\d[\w.!+]*)$")
"""A requirement of one exact version, perhaps with extras: name, extras, version."""
BY_HAND = {"simulate/fit.py", "drift/airflow_standalone.py"}
"""Scripts that are no part of their project: run by hand, in the environment of the locks or of Airflow."""
LOCKED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[\w,.-]+\])?==([^\s;\\]+)", flags=re.MULTILINE)


def read_environment(folder: str) -> dict[str, Any]:
    loaded: dict[str, Any] = read_yaml(ROOT / folder / "conda.yml")
    return loaded


def read_pip_lines(folder: str) -> list[str]:
    """Return the pip requirements of a step's environment."""
    (pip,) = [entry["pip"] for entry in read_environment(folder)["dependencies"] if isinstance(entry, dict)]
    return list(pip)


@cache
def read_pins(folder: str) -> dict[str, str]:
    return parse_exact_versions(read_pip_lines(folder))


def parse_exact_versions(lines: list[str]) -> dict[str, str]:
    return {canonicalize_name(match[1]): match[3] for line in lines if (match := EXACT.match(line))}


@cache
def read_pinned_inputs() -> dict[str, str]:
    """Return the exact versions in requirements/*.in; ranges are resolved in the lock."""
    lines = [line.partition("#")[0].strip() for path in INPUTS for line in path.read_text().splitlines()]
    return parse_exact_versions(lines)


@cache
def read_lock(lock: Path) -> dict[str, set[str]]:
    """Return the versions of each package in a lock: one, or one for each Python version of the lock."""
    versions: dict[str, set[str]] = {}
    for name, version in re.findall(LOCKED, lock.read_text()):
        versions.setdefault(canonicalize_name(name), set()).add(version)
    return versions


@cache
def list_installed_with(line: str) -> frozenset[str]:
    """Return the distributions that a requirement installs, itself included, according to this environment."""
    visited: set[tuple[str, str]] = set()
    waiting = list_required_names(Requirement(line))
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in visited:
            continue
        visited.add((name, extra))
        try:
            requirements = list_requirements(name)
        except PackageNotFoundError:
            continue
        for requirement in requirements:
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting += list_required_names(requirement)
    return frozenset(name for name, _ in visited)


@cache
def list_requirements(name: str) -> tuple[Requirement, ...]:
    """Return the requirements of an installed distribution.

    Raises:
        PackageNotFoundError: the distribution is not installed.
    """
    return tuple(Requirement(line) for line in requires(name) or [])


def list_required_names(requirement: Requirement) -> list[tuple[str, str]]:
    """Return a requirement's name, without and with each of its extras."""
    return [(canonicalize_name(requirement.name), extra) for extra in ("", *requirement.extras)]


def find_third_party(paths: set[Path]) -> dict[str, str]:
    """Return the imported third-party modules, with a file that imports each."""
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()} | {path.stem for path in ROOT.glob("*.py")}
    return {
        module: get_name(path)
        for path in paths
        for module in get_first_parts(list_imports(path))
        if module not in sys.stdlib_module_names and module not in folders
    }


def find_project_code(folder: str) -> set[Path]:
    """Return the files of a project and all files of the repository that they import."""
    files = [ROOT / "main.py"] if folder == "." else [*(ROOT / folder).glob("*.py")]
    return find_reachable(*(path for path in files if get_name(path) not in BY_HAND))


@cache
def find_distributions(module: str) -> frozenset[str]:
    """Return the distributions that may provide a module, according to this environment."""
    return frozenset(canonicalize_name(name) for name in map_installed_modules().get(module, [module]))


@cache
def map_installed_modules() -> Mapping[str, list[str]]:
    """Return the distributions of each installed module; cached, because the search takes long."""
    return packages_distributions()


def find_lacking(paths: set[Path], provided: Collection[str]) -> dict[str, str]:
    """Return the imported modules that no `provided` distribution contains, each with a file that imports it."""
    return {
        module: where
        for module, where in find_third_party(paths).items()
        if not find_distributions(module) & {*provided}
    }


@pytest.mark.parametrize("folder", FOLDERS)
def test_conda_takes_the_environment(folder: str) -> None:
    loaded = read_environment(folder)
    assert set(loaded) == {"name", "channels", "dependencies"}
    assert loaded["channels"] == ["conda-forge"]
    plain = [entry for entry in loaded["dependencies"] if isinstance(entry, str)]
    assert sorted(entry.partition("=")[0] for entry in plain) == ["pip", "python"]
    assert plain.index("pip") < len(loaded["dependencies"]) - 1, "pip stands before the list that it installs"


@pytest.mark.parametrize("folder", PROJECT_FOLDERS)
def test_an_environment_is_named_after_its_folder(folder: str) -> None:
    assert read_environment(folder)["name"] == folder


def test_every_environment_has_the_same_python() -> None:
    pythons = {entry for folder in FOLDERS for entry in read_environment(folder)["dependencies"] if "python=" in entry}
    assert len(pythons) == 1


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_package_of_an_environment_has_one_exact_version(folder: str) -> None:
    assert [line for line in read_pip_lines(folder) if not EXACT.match(line)] == []
    assert len(read_pins(folder)) == len(read_pip_lines(folder)), "a package stands twice"


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_environment_agrees_with_the_requirements(folder: str) -> None:
    expected = read_pinned_inputs()
    assert {name: version for name, version in read_pins(folder).items() if expected.get(name) != version} == {}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_the_lock_agrees_with_the_requirements(lock: Path) -> None:
    locked, expected = read_lock(lock), read_pinned_inputs()
    assert {
        name: versions for name, versions in locked.items() if name in expected and versions != {expected[name]}
    } == {}


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.name)
def test_a_lock_holds_everything_that_its_requirements_name(path: Path) -> None:
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    required = {canonicalize_name(Requirement(line).name) for line in lines if line and not line.startswith("-")}
    assert required
    assert required <= set(read_lock(path.with_suffix(".lock")))


def test_locks_that_share_a_package_share_its_version() -> None:
    main = read_lock(REQUIREMENTS / "drift.lock")
    test = read_lock(REQUIREMENTS / "test.lock")
    assert read_lock(REQUIREMENTS / "run.lock").items() <= main.items()
    assert {name: version for name, version in main.items() if test.get(name) != version} == {}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_package_of_a_lock_has_hashes(lock: Path) -> None:
    entries = re.split(r"^(?=\S)", re.sub(r"^\s*#.*\n", "", lock.read_text(), flags=re.MULTILINE), flags=re.MULTILINE)
    packages = [entry for entry in entries if entry.strip()]
    assert len(packages) == sum(map(len, read_lock(lock).values()))
    bare = [entry.splitlines()[0] for entry in packages if not re.search(r"--hash=sha256:[0-9a-f]{64}", entry)]
    assert bare == []


@pytest.mark.parametrize("path", [*LOCKS, *INPUTS], ids=lambda path: path.name)
def test_requirements_name_no_address(path: Path) -> None:
    address = re.compile(r"https?:|file:|ftp:|git\+|--(extra-)?index|--find-links|--trusted-host|(^|\s)-[fi]\s|\s@\s")
    assert [line for line in path.read_text().splitlines() if address.search(line)] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_an_environment_provides_every_module_that_its_code_reaches(folder: str) -> None:
    provided = {name for line in read_pip_lines(folder) for name in list_installed_with(line)}
    assert find_lacking(find_project_code(folder), provided) == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_module_whose_package_the_requirements_pin_is_pinned_in_the_environment_too(folder: str) -> None:
    """Otherwise a dependency of mlflow would install its newest version of that day."""
    required = {name for module in find_third_party(find_project_code(folder)) for name in find_distributions(module)}
    assert (required & set(read_pinned_inputs())) - set(read_pins(folder)) == set()


def test_the_lock_for_running_provides_every_module_of_the_code() -> None:
    # Monitoring and Airflow have their own environments, and benchmarks use the environment of the tests.
    elsewhere = ("drift/", "benchmarks/", "docker/preflight.py")
    ours = {path for path in list_code() if not get_name(path).startswith(elsewhere)}
    assert find_lacking(ours, read_lock(REQUIREMENTS / "run.lock")) == {}


def test_the_lock_for_monitoring_provides_every_module_of_its_code() -> None:
    apart = ("drift/dags/", *BY_HAND)
    files = [
        path for path in list_code() if get_name(path).startswith("drift/") and not get_name(path).startswith(apart)
    ]
    assert find_lacking(find_reachable(*files), read_lock(REQUIREMENTS / "drift.lock")) == {}


def test_the_lock_for_testing_provides_every_module_of_benchmarks() -> None:
    files = {path for path in list_code() if get_name(path).startswith("benchmarks/")}
    # Packages that were measured but not adopted are in no lock.
    assert set(find_lacking(files, read_lock(REQUIREMENTS / "test.lock"))) <= {"sklearnex", "daal4py"}


def test_reaching_goes_through_stepkit() -> None:
    reached = {get_name(path) for path in find_reachable(ROOT / "preprocess" / "run.py")}
    assert {"preprocess/run.py", "stepkit/step/run.py", "stepkit/table/tables.py"} <= reached
    assert find_file("pandas") is None

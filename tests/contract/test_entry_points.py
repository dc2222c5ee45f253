"""Further entry points of every MLproject pass each parameter to a program that accepts it, with one default."""

from __future__ import annotations

import argparse
import importlib
import shlex
from typing import Any

import pytest

from stepkit.paths import ROOT
from stepkit.settings.drift import Monitoring
from tests.support.repo import read_yaml

PROGRAMS = {
    "download": {"describe": "download.describe"},
    "drift": {"replay": "drift.replay", "labelled": "drift.labelled", "page": "drift.page"},
    "register": {"promote": "register.promote", "rollback": "register.rollback", "models": "register.models"},
    "serve": {
        "batch": "serve.batch.run",
        "spark": "serve.batch.spark",
        "feedback": "prediction_log.labels",
        "explain": "serve.audit.explain",
        "replay": "serve.audit.replay",
    },
    "simulate": {"traffic": "simulate.traffic", "loans": "simulate.loans"},
}
SETTINGS = {"batch": ["MALLOC_ARENA_MAX=1", "ARROW_DEFAULT_MEMORY_POOL=system"]}
REQUIRED = {
    "describe": {"file_url", "target"},
    "promote": {"version", "reason"},
    "rollback": {"reason"},
    "models": set[str](),
    "replay": set[str](),
    "explain": set[str](),
    "labelled": {"output"},
    "page": set[str](),
    "traffic": {"url"},
    "loans": {"output"},
    "batch": {"input", "output"},
    "spark": {"input", "output"},
}
EVERY = [(folder, name) for folder, programs in PROGRAMS.items() for name in programs]


def read_entries(folder: str) -> dict[str, Any]:
    entry_points: dict[str, Any] = read_yaml(ROOT / folder / "MLproject")["entry_points"]
    return entry_points


def make_start_command(folder: str, name: str) -> list[str]:
    """Return the command that starts a program next to MLproject, or a module below it."""
    module = PROGRAMS[folder][name]
    program = [f"{name}.py"] if module == f"{folder}.{name}" else ["-m", module]
    return [*SETTINGS.get(name, []), "PYTHONPATH=..", "python", "-P", *program]


@pytest.mark.parametrize("folder", PROGRAMS)
def test_every_entry_point_is_known(folder: str) -> None:
    assert set(read_entries(folder)) == {"main", *PROGRAMS[folder]}


def test_no_other_folder_has_further_entry_points() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/MLproject") if len(read_entries(path.parent.name)) > 1}
    assert folders == set(PROGRAMS)


@pytest.mark.parametrize(("folder", "name"), EVERY)
def test_the_command_hands_every_parameter_on(folder: str, name: str) -> None:
    entry, start = read_entries(folder)[name], make_start_command(folder, name)
    words = shlex.split(entry["command"])
    assert words[: len(start)] == start
    handed = words[len(start) :]
    pairs = dict(zip(handed[::2], handed[1::2], strict=True))
    assert pairs == {f"--{parameter}": f"{{{parameter}}}" for parameter in entry["parameters"]}


def test_the_root_can_make_a_report_with_the_flags_and_defaults_of_its_program() -> None:
    entry = read_yaml(ROOT / "MLproject")["entry_points"]["report"]
    words = shlex.split(entry["command"])
    assert words[:4] == ["MLFLOW_DISABLE_TELEMETRY=true", "python", "-m", "pipeline.report"]
    handed = words[4:]
    assert dict(zip(handed[::2], handed[1::2], strict=True)) == {
        f"--{parameter}": f"{{{parameter}}}" for parameter in entry["parameters"]
    }
    parser: argparse.ArgumentParser = importlib.import_module("pipeline.report.__main__").make_parser()
    flags = {action.dest: action.default for action in parser._actions if action.dest != "help"}
    assert flags == {name: kind["default"] for name, kind in entry["parameters"].items()}


@pytest.mark.parametrize(("folder", "name"), [program for program in EVERY if program[1] in REQUIRED])
def test_flags_and_parameters_have_the_same_defaults(folder: str, name: str) -> None:
    parser: argparse.ArgumentParser = importlib.import_module(PROGRAMS[folder][name]).make_parser()
    flags = {action.dest: action for action in parser._actions if action.dest != "help"}
    parameters = read_entries(folder)[name]["parameters"]
    undeclared = set(flags) - set(parameters)
    assert set(parameters) <= set(flags)
    assert undeclared <= set(Monitoring.model_fields), "MLflow hands a parameter on that a project does not declare"
    assert {flag for flag, action in flags.items() if action.required} == REQUIRED[name]
    defaults = {parameter: str(kind["default"]).lower() for parameter, kind in parameters.items() if "default" in kind}
    declared = {flag: action for flag, action in flags.items() if not action.required and flag not in undeclared}
    assert defaults == {flag: str(action.default).lower() for flag, action in declared.items()}

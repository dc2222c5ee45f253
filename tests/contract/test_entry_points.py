"""The further entry points of serve/MLproject hand every parameter on to a program that takes it, with one default."""

from __future__ import annotations

import argparse
import importlib
import shlex
from typing import Any

import pytest

from stepkit.tracking import ROOT
from tests.contract.repo import read_yaml

PROGRAMS = {"batch": "serve.batch", "spark": "serve.spark", "feedback": "serve.record.feedback"}
STARTS = {
    "batch": ["MALLOC_ARENA_MAX=1", "ARROW_DEFAULT_MEMORY_POOL=system", "PYTHONPATH=..", "python", "-P", "batch.py"],
    "spark": ["PYTHONPATH=..", "python", "-P", "spark.py"],
    "feedback": ["PYTHONPATH=..", "python", "-P", "-m", "serve.record.feedback"],
}


def entry(name: str) -> dict[str, Any]:
    found: dict[str, Any] = read_yaml(ROOT / "serve" / "MLproject")["entry_points"][name]
    return found


def test_every_entry_point_is_known() -> None:
    assert set(read_yaml(ROOT / "serve" / "MLproject")["entry_points"]) == {"main", *PROGRAMS}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_command_hands_every_parameter_on(name: str) -> None:
    words = shlex.split(entry(name)["command"])
    start, handed = words[: len(STARTS[name])], words[len(STARTS[name]) :]
    assert start == STARTS[name]
    pairs = dict(zip(handed[::2], handed[1::2], strict=True))
    assert pairs == {f"--{parameter}": f"{{{parameter}}}" for parameter in entry(name)["parameters"]}


@pytest.mark.parametrize("name", ["batch", "spark"])
def test_flags_and_parameters_have_the_same_defaults(name: str) -> None:
    parser: argparse.ArgumentParser = importlib.import_module(PROGRAMS[name]).parser()
    flags = {action.dest: action for action in parser._actions if action.dest != "help"}
    parameters = entry(name)["parameters"]
    assert set(flags) == set(parameters)
    assert {flag for flag, action in flags.items() if action.required} == {"input", "output"}
    given = {parameter: kind["default"] for parameter, kind in parameters.items() if "default" in kind}
    assert given == {flag: str(action.default) for flag, action in flags.items() if not action.required}

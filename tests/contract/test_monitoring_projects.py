"""The entry points of drift/ and of simulated traffic, the settings and config.yaml name the same things."""

from __future__ import annotations

import argparse
import importlib
import shlex
from typing import Any

import pytest

from stepkit.monitoring import Monitoring, Policy
from stepkit.tracking import ROOT
from tests.contract.repo import read_yaml

PROGRAMS = {
    ("drift", "main"): "run",
    ("drift", "replay"): "replay",
    ("drift", "labelled"): "labelled",
    ("drift", "page"): "page",
    ("simulate", "traffic"): "traffic",
}
CASES = [pytest.param(*entry, program, id="-".join(entry)) for entry, program in PROGRAMS.items()]


def entry(folder: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = read_yaml(ROOT / folder / "MLproject")["entry_points"][name]
    return found


def test_every_entry_point_is_known() -> None:
    for folder in ("drift", "simulate"):
        known = {name for where, name in PROGRAMS if where == folder}
        assert set(read_yaml(ROOT / folder / "MLproject")["entry_points"]) - {"main"} == known - {"main"}


@pytest.mark.parametrize(("folder", "name", "program"), CASES)
def test_the_command_hands_every_parameter_on(folder: str, name: str, program: str) -> None:
    start = ["PYTHONPATH=..", "python", "-P", f"{program}.py"]
    words = shlex.split(entry(folder, name)["command"])
    assert words[: len(start)] == start
    handed = words[len(start) :]
    pairs = dict(zip(handed[::2], handed[1::2], strict=True))
    assert pairs == {f"--{parameter}": f"{{{parameter}}}" for parameter in entry(folder, name)["parameters"]}


@pytest.mark.parametrize(("folder", "name", "program"), CASES)
def test_flags_and_parameters_have_the_same_defaults(folder: str, name: str, program: str) -> None:
    parser: argparse.ArgumentParser = importlib.import_module(f"{folder}.{program}").parser()
    flags = {action.dest: action for action in parser._actions if action.dest != "help"}
    parameters = entry(folder, name)["parameters"]
    given = {parameter: str(kind["default"]).lower() for parameter, kind in parameters.items() if "default" in kind}
    assert set(flags) == set(parameters)
    assert given == {flag: str(action.default).lower() for flag, action in flags.items() if not action.required}


def test_config_yaml_names_every_setting_with_its_default() -> None:
    configured = read_yaml(ROOT / "config.yaml")["drift"]
    assert set(configured) == set(Monitoring.model_fields)
    assert Monitoring(**configured) == Monitoring()


def test_replay_takes_every_key_of_the_policy() -> None:
    assert set(Policy.model_fields) <= set(entry("drift", "replay")["parameters"])

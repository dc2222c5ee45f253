"""The entry points of drift/, the settings and config.yaml name the same things."""

from __future__ import annotations

from typing import Any

from stepkit.monitoring import Monitoring, Policy
from stepkit.tracking import ROOT
from tests.contract.repo import read_yaml


def entry(name: str) -> dict[str, Any]:
    found: dict[str, Any] = read_yaml(ROOT / "drift" / "MLproject")["entry_points"][name]
    return found


def test_the_step_has_a_parameter_for_each_setting() -> None:
    assert set(entry("main")["parameters"]) == {*Monitoring.model_fields, "result"}
    assert all(kind["default"] == "" for kind in entry("main")["parameters"].values())


def test_config_yaml_names_every_setting_with_its_default() -> None:
    configured = read_yaml(ROOT / "config.yaml")["drift"]
    assert set(configured) == set(Monitoring.model_fields)
    assert Monitoring(**configured) == Monitoring()


def test_replay_takes_every_key_of_the_policy() -> None:
    assert set(Policy.model_fields) <= set(entry("replay")["parameters"])

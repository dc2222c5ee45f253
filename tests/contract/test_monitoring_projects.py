"""The entry points of drift/, the settings and config.yaml name the same things."""

from __future__ import annotations

from typing import Any

from benchmarks import drift
from stepkit.paths import ROOT
from stepkit.settings.drift import Monitoring, Policy
from tests.support.repo import read_yaml


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


def figures(file: str, rows: int) -> list[list[str]]:
    """What changed, windows and alarms: the first cells of the last so many rows of tables."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    tabled = [line.strip("| ").split(" | ")[:3] for line in lines if "%) |" in line]
    return tabled[-rows:]


def test_the_figures_of_the_benchmark_are_those_that_the_readme_quotes() -> None:
    measured = figures("benchmarks/drift.md", len(drift.COUNTS))
    assert [int(row[1]) for row in measured] == list(drift.COUNTS.values())
    assert figures("docs/monitor.md", len(drift.COUNTS)) == measured

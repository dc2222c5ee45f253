"""The settings of a project are declared once: config.yaml, --help and MLproject match the schema."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from docs import make_reference
from stepkit.settings.drift import Monitoring
from stepkit.settings.load import CONFIG
from stepkit.settings.serve import Serving
from tests.support.repo import read_project, read_yaml

SCHEMAS: dict[str, Any] = {"serve": Serving, "drift": Monitoring}


@pytest.mark.parametrize("section", SCHEMAS)
def test_settings_are_the_same_in_the_schema_config_yaml_help_and_mlproject(section: str) -> None:
    schema = SCHEMAS[section]
    meanings = {name: field.description for name, field in schema.model_fields.items()}
    configured = read_yaml(CONFIG)[section]
    commented = make_reference.read_settings(CONFIG, "")
    flags = {action.dest: action for action in importlib.import_module(f"{section}.run").make_parser()._actions}
    assert {name: commented[f"{section}.{name}"][1] for name in configured} == meanings
    assert schema(**configured) == schema()
    assert {name: flags[name].help for name in meanings} == meanings
    assert {flags[name].default for name in meanings} == {""}
    assert read_project(section).defaults == dict.fromkeys(read_project(section).parameters, "")
    assert read_project(section).parameters.keys() <= flags.keys()

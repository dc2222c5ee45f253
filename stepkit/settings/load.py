"""Settings of the projects `serve` and `drift`: parameters from the command line override config.yaml."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Any, TypeVar

import yaml

from stepkit.commands import quote_for_hydra, quote_options
from stepkit.errors import BadParameter
from stepkit.paths import ROOT
from stepkit.table.columns import Strict, format_first_problem

CONFIG = ROOT / "config.yaml"
DEFAULT_MODEL = "credit_default"
"""Registered model of commands that name none, such as `make models`."""


def format_make_command(verb: str, model: str) -> str:
    """Return the make command for a registered model; the default model is left out of the command."""
    if model == DEFAULT_MODEL:
        return f"make {verb}"
    if verb == "run":
        return f"make run options={quote_options([f'register.model_name={quote_for_hydra(model)}'])}"
    return f"make {verb} MODEL={quote(model)}"


TYPED_NULL = "none"
"""Parameter value that means null; an empty parameter means the value of config.yaml."""

Settings = TypeVar("Settings", bound=Strict)


def resolve_settings(kind: type[Settings], section: str, typed: dict[str, str], config: Path = CONFIG) -> Settings:
    """Return the settings: each typed value, else the value of config.yaml, else the default.

    Raises:
        BadParameter: a key is unknown or has a wrong value; the message names it.
    """
    parameters = {key: None if value == TYPED_NULL else value for key, value in typed.items() if value != ""}
    configured = _read_section(section, config)
    _validate(kind, configured, f"{config.name}: {section}.", f"Correct {config.name}.")
    return _validate(kind, {**configured, **parameters}, "-P ", "List the parameters: python run.py --help")


def read_settings(kind: type[Settings], path: Path, missing: str, section: str = "") -> Settings:
    """Return the settings in a YAML file, at its top level or under the key `section`.

    Raises:
        BadParameter: the file does not exist (with the message `missing`) or is not YAML, or a setting is wrong.
    """
    if not path.is_file():
        raise BadParameter(missing)
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        return kind.model_validate(loaded.get(section, loaded) if section and isinstance(loaded, dict) else loaded)
    except yaml.YAMLError as error:
        raise BadParameter(f"{path.name}: not YAML: {error}") from error
    except ValueError as error:
        raise BadParameter(f"{path.name}: {section and f'{section}: '}{format_first_problem(error)}") from error


def _validate(kind: type[Settings], values: dict[str, Any], where: str, hint: str) -> Settings:
    try:
        return kind(**values)
    except ValueError as error:
        raise BadParameter(f"{where}{format_first_problem(error)}. {hint}") from error


def _read_section(section: str, config: Path) -> dict[str, Any]:
    """Return a section of config.yaml, with register.model_name as the default of its `model_name`."""
    try:
        loaded = yaml.safe_load(config.read_text(encoding="utf-8")) if config.is_file() else None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadParameter(f"{config.name}: not YAML: {' '.join(str(error).split())}") from error
    sections = _to_mapping(loaded, config.name)
    settings = _to_mapping(sections.get(section), f"{config.name}: {section}")
    registered_name = _to_mapping(sections.get("register"), f"{config.name}: register").get("model_name")
    return {**settings, "model_name": settings.get("model_name") or registered_name or DEFAULT_MODEL}


def _to_mapping(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadParameter(f"{name}: not a mapping of keys to values (found: {value}).")
    return value

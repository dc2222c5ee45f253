"""The settings of a project beside the pipeline: its section of config.yaml, and above it what was typed."""

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
"""The registered model that is meant where none is named, as by `make models` and its like."""


def format_make_command(verb: str, model: str) -> str:
    """Return a command of make about a registered model, which is named where it is not the usual one."""
    if model == DEFAULT_MODEL:
        return f"make {verb}"
    if verb == "run":
        return f"make run options={quote_options([f'register.model_name={quote_for_hydra(model)}'])}"
    return f"make {verb} MODEL={quote(model)}"


TYPED_NULL = "none"
"""What is typed for null; a parameter that is empty was not typed at all."""

Settings = TypeVar("Settings", bound=Strict)


def resolve_settings(kind: type[Settings], section: str, typed: dict[str, str], config: Path = CONFIG) -> Settings:
    """Return what was typed, else what config.yaml says, else the default; raise BadParameter for a wrong key."""
    given = {key: None if value == TYPED_NULL else value for key, value in typed.items() if value != ""}
    configured = _read_section(section, config)
    _validate(kind, configured, f"{config.name}: {section}.", f"The keys stand in {config.name}.")
    return _validate(kind, {**configured, **given}, "-P ", "The known ones: python run.py --help")


def read_settings(kind: type[Settings], path: Path, missing: str, section: str = "") -> Settings:
    """Return the settings in a file, which may have them under the key `section`.

    Raises:
        BadParameter: no such file (`missing` says so), no YAML, or a setting that does not fit.
    """
    if not path.is_file():
        raise BadParameter(missing)
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        return kind.model_validate(found.get(section, found) if section and isinstance(found, dict) else found)
    except yaml.YAMLError as error:
        raise BadParameter(f"{path.name} is not YAML: {error}") from error
    except ValueError as error:
        raise BadParameter(f"{path.name}: {section and f'{section}: '}{format_first_problem(error)}") from error


def _validate(kind: type[Settings], values: dict[str, Any], where: str, hint: str) -> Settings:
    try:
        return kind(**values)
    except ValueError as error:
        raise BadParameter(f"{where}{format_first_problem(error)}. {hint}") from error


def _read_section(section: str, config: Path) -> dict[str, Any]:
    """A section of config.yaml with the name of the model that `register` writes; a file without it is none of ours."""
    try:
        loaded = yaml.safe_load(config.read_text(encoding="utf-8")) if config.is_file() else None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadParameter(f"{config.name} is not YAML: {' '.join(str(error).split())}") from error
    everything = _to_mapping(loaded, config.name)
    own = _to_mapping(everything.get(section), f"{config.name}: {section}")
    registered = _to_mapping(everything.get("register"), f"{config.name}: register").get("model_name")
    return {**own, "model_name": own.get("model_name") or registered or DEFAULT_MODEL}


def _to_mapping(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadParameter(f"{name} is no mapping of keys to values (found: {value}).")
    return value

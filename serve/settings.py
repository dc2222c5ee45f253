"""The scorer's settings: `serve` of config.yaml, and above it what was typed as a parameter of the project."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from serve.record.settings import LogSettings
from stepkit.columns import first_problem
from stepkit.errors import BadParameter
from stepkit.serving import Serving

HANDED_OVER = "SCORER_SETTINGS"
"""Variable by which run.py hands its settings to the worker processes that uvicorn starts."""

CONFIG = Path(__file__).resolve().parents[1] / "config.yaml"
DEFAULT_MODEL = "credit_default"
NOTHING = "none"
"""What is typed for null; a parameter that is empty was not typed at all."""


class ServeSettings(Serving):
    """The settings as the scorer uses them."""

    @property
    def max_body_bytes(self) -> int:
        return int(self.max_body_mb * 2**20)

    @property
    def log(self) -> LogSettings:
        return LogSettings(
            keep_days=self.keep_days,
            redact=self.redact,
            sample_rate=self.sample_rate,
            when_unavailable=self.when_unavailable,
        )


def settings_from(typed: dict[str, str], config: Path = CONFIG) -> ServeSettings:
    """Return the settings: what was typed, else what config.yaml says, else the default.

    Raises:
        BadParameter: an unknown key or a value that does not fit; the message names it and where it stands.
    """
    given = {key: None if value == NOTHING else value for key, value in typed.items() if value != ""}
    configured = _configured(config)
    _checked(configured, f"{config.name}: serve.", f"The keys stand in {config.name}.")
    return _checked({**configured, **given}, "-P ", "The known ones: python run.py --help")


def _checked(values: dict[str, Any], where: str, hint: str) -> ServeSettings:
    try:
        return ServeSettings(**values)
    except ValueError as error:
        raise BadParameter(f"{where}{first_problem(error)}. {hint}") from error


def _configured(config: Path) -> dict[str, Any]:
    """`serve` of config.yaml with the name of the model that `register` writes; a file without it is none of ours."""
    try:
        loaded = yaml.safe_load(config.read_text(encoding="utf-8")) if config.is_file() else None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadParameter(f"{config.name} is not YAML: {' '.join(str(error).split())}") from error
    everything = _mapping(loaded, config.name)
    own = _mapping(everything.get("serve"), f"{config.name}: serve")
    registered = _mapping(everything.get("register"), f"{config.name}: register").get("model_name")
    return {**own, "model_name": own.get("model_name") or registered or DEFAULT_MODEL}


def _mapping(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadParameter(f"{name} is no mapping of keys to values (found: {value}).")
    return value


def handed_over() -> ServeSettings:
    """Return the settings of the process that started this one; the defaults when there is none."""
    return ServeSettings.model_validate_json(os.environ.get(HANDED_OVER, "{}"))

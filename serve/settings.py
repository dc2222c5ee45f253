"""The scorer's settings: `serve` of config.yaml, and above it what was typed as a parameter of the project."""

from __future__ import annotations

import os
from pathlib import Path

from prediction_log.settings import LogSettings
from stepkit.errors import BadParameter
from stepkit.settings.load import CONFIG, resolve_settings
from stepkit.settings.serve import Serving

SETTINGS_VARIABLE = "SCORER_SETTINGS"
"""Variable by which run.py hands its settings to the worker processes that uvicorn starts."""

KEY_VARIABLE = "SCORER_API_KEY"
METRICS_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's variable; run.py sets it for several workers, before that library is imported."""


class ServeSettings(Serving):
    """The settings as the scorer uses them."""

    @property
    def log(self) -> LogSettings:
        return LogSettings(**self.model_dump(include=set(LogSettings.model_fields)))


def load_settings(typed: dict[str, str], config: Path = CONFIG) -> ServeSettings:
    """Return the settings: what was typed, else what config.yaml says, else the default; raises BadParameter."""
    return resolve_settings(ServeSettings, "serve", typed, config)


def load_handed_over_settings() -> ServeSettings:
    """Return the settings of the process that started this one; the defaults when there is none."""
    return ServeSettings.model_validate_json(os.environ.get(SETTINGS_VARIABLE, "{}"))


def read_api_key() -> str:
    """Return the API key, empty without one; raise BadParameter if no header can carry it."""
    key = os.environ.get(KEY_VARIABLE, "")
    if key != key.strip() or not key.isprintable():
        raise BadParameter(
            f"{KEY_VARIABLE}: no client can send this key (found white space at an end or a control character, expected "
            "printable characters). Set it again without them."
        )
    return key

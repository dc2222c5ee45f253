"""Settings of the scorer: `serve` in config.yaml, overridden by the parameters of the project."""

from __future__ import annotations

import os
from pathlib import Path

from prediction_log.settings import LogSettings
from stepkit.errors import BadParameter
from stepkit.settings.load import CONFIG, resolve_settings
from stepkit.settings.serve import Serving

SETTINGS_VARIABLE = "SCORER_SETTINGS"
"""Environment variable in which run.py passes its settings to the worker processes that uvicorn starts."""

KEY_VARIABLE = "SCORER_API_KEY"
METRICS_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable of prometheus_client. For several workers run.py sets it before that library is imported."""


class ServeSettings(Serving):
    """Settings of the scorer, with those of its prediction log as `log`."""

    @property
    def log(self) -> LogSettings:
        """Settings of the prediction log."""
        return LogSettings(**self.model_dump(include=set(LogSettings.model_fields)))


def load_settings(typed: dict[str, str], config: Path = CONFIG) -> ServeSettings:
    """Return each setting from `typed`, else from config.yaml, else its default; raise BadParameter for a bad value."""
    return resolve_settings(ServeSettings, "serve", typed, config)


def load_handed_over_settings() -> ServeSettings:
    """Return the settings that run.py passed to this worker; the defaults without them."""
    return ServeSettings.model_validate_json(os.environ.get(SETTINGS_VARIABLE, "{}"))


def read_api_key() -> str:
    """Return the API key, "" without one; raise BadParameter if an HTTP header cannot hold it."""
    key = os.environ.get(KEY_VARIABLE, "")
    if key != key.strip() or not key.isprintable():
        raise BadParameter(
            f"{KEY_VARIABLE}: cannot be sent in a header (found white space at an end or a control character). "
            "Set a key of printable characters."
        )
    return key

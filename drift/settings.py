"""The settings of monitoring: `drift` of config.yaml, and above it what was typed as a parameter of the project."""

from __future__ import annotations

import os
from collections.abc import Mapping

from prediction_log.settings import DEFAULT_URL, URL_VARIABLE
from stepkit.secret_urls import verify_no_secret
from stepkit.settings.drift import Monitoring
from stepkit.settings.load import resolve_settings

URL_SETTINGS = {
    "log_url": f"Set {URL_VARIABLE} instead.",
    "reference": "Put it into an environment variable and name that: reference=env:DATA_URL.",
    "current": "Put it into an environment variable and name that: current=env:DATA_URL.",
}
"""The settings that may hold a secret, and what to do with one that does."""


def load_monitoring(typed: Mapping[str, str]) -> Monitoring:
    """Return the settings: what was typed, else what config.yaml says, else the default.

    Args:
        typed: the flags of a command; those that are not settings are left out.

    Raises:
        BadParameter: a value that does not fit; the message names it and where it stands.
        SecretInAddress: an address holds a password, which MLflow would keep.
    """
    settings = resolve_settings(
        Monitoring, "drift", {key: typed[key] for key in Monitoring.model_fields if key in typed}
    )
    for key, instead in URL_SETTINGS.items():
        verify_no_secret(getattr(settings, key), key, instead)
    return settings


def get_log_url(settings: Monitoring) -> str:
    """Return the prediction log's address, which may hold a password and so may come from the environment."""
    return settings.log_url or os.environ.get(URL_VARIABLE) or DEFAULT_URL


def get_reference_model(settings: Monitoring) -> str:
    """Return the address of the model that is watched; "" if files are compared without one."""
    if settings.reference.startswith("models:/"):
        return settings.reference
    # null in config.yaml is the registered model; only who types model_name=none has none
    return f"models:/{settings.model_name}@champion" if settings.model_name else ""

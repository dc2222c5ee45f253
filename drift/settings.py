"""Settings of monitoring: the parameters of the project, then `drift` of config.yaml, then the defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping

from prediction_log.settings import DEFAULT_URL, URL_VARIABLE
from stepkit.secret_urls import verify_no_secret
from stepkit.settings.drift import Monitoring
from stepkit.settings.load import resolve_settings

URL_SETTINGS = {
    "log_url": f"Set {URL_VARIABLE} instead.",
    "reference": "Put the URL into an environment variable: reference=env:DATA_URL.",
    "current": "Put the URL into an environment variable: current=env:DATA_URL.",
}
"""Settings that may hold a secret, each with the alternative."""


def load_monitoring(typed: Mapping[str, str]) -> Monitoring:
    """Return the settings of monitoring.

    Args:
        typed: the flags of a command; other flags than settings are ignored.

    Raises:
        BadParameter: a value is invalid; the message names its key and source.
        SecretInAddress: a URL holds a password, which MLflow would record.
    """
    settings = resolve_settings(
        Monitoring, "drift", {key: typed[key] for key in Monitoring.model_fields if key in typed}
    )
    for key, instead in URL_SETTINGS.items():
        verify_no_secret(getattr(settings, key), key, instead)
    return settings


def get_log_url(settings: Monitoring) -> str:
    """Return the URL of the prediction log; it comes from the environment if it holds a password."""
    return settings.log_url or os.environ.get(URL_VARIABLE) or DEFAULT_URL


def get_reference_model(settings: Monitoring) -> str:
    """Return the URI of the monitored model; "" if files are compared without a model."""
    if settings.reference.startswith("models:/"):
        return settings.reference
    # null in config.yaml means the registered model; only model_name=none means no model.
    return f"models:/{settings.model_name}@champion" if settings.model_name else ""

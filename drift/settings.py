"""The settings of monitoring: `drift` of config.yaml, and above it what was typed as a parameter of the project."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from prediction_log.settings import DEFAULT_URL, URL_VARIABLE
from stepkit.secret_urls import expect_no_secret
from stepkit.settings.drift import Monitoring
from stepkit.settings.load import CONFIG, settings_of

ADDRESSES = {
    "log_url": f"Set {URL_VARIABLE} instead.",
    "reference": "Put it into an environment variable and name that: reference=env:DATA_URL.",
    "current": "Put it into an environment variable and name that: current=env:DATA_URL.",
}
"""The settings that may hold a secret, and what to do with one that does."""


def settings_from(typed: dict[str, str], config: Path = CONFIG) -> Monitoring:
    """Return the settings: what was typed, else what config.yaml says, else the default.

    Raises:
        BadParameter: an unknown key or a value that does not fit; the message names it and where it stands.
        SecretInAddress: an address holds a password, which MLflow would keep.
    """
    settings = settings_of(Monitoring, "drift", typed, config)
    for key, instead in ADDRESSES.items():
        expect_no_secret(getattr(settings, key), key, instead)
    return settings


def add_settings(flags: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Add a flag for each of these settings, which a command beside `drift` needs too."""
    for name in names:
        flags.add_argument(f"--{name}", default="", help="as in config.yaml: drift")


def given_settings(given: Mapping[str, str], names: Sequence[str]) -> Monitoring:
    """Return the settings with what was typed for these flags; raises as `settings_from`."""
    return settings_from({name: given[name] for name in names})


def log_address(settings: Monitoring) -> str:
    """The prediction log's address, which may hold a password and so may come from the environment."""
    return settings.log_url or os.environ.get(URL_VARIABLE) or DEFAULT_URL


def reference_model(settings: Monitoring) -> str:
    """The address of the model that is watched; "" if files are compared without one."""
    if settings.reference.startswith("models:/"):
        return settings.reference
    # null in config.yaml is the registered model; only who types model_name=none has none
    return f"models:/{settings.model_name}@champion" if settings.model_name else ""

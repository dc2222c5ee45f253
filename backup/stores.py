"""Databases to save: by default those that the pipeline and the scorer use, from the same settings."""

from __future__ import annotations

import os
import re
from pathlib import Path

from backup.errors import SourceUnreadable
from stepkit.paths import ROOT, find_sqlite_file

CONFIG = "config.yaml"
DATABASES = "BACKUP_DATABASES"
"""Variable with NAME=URL pairs, separated by spaces. A database comes before the databases it refers to."""

REMEDY = f"Set: {DATABASES}='predictions=sqlite:///FILE mlflow=sqlite:///FILE'"

KEYS = {
    "predictions": ("serve", "log_url", "PREDICTION_LOG_URL", "sqlite:///predictions.db"),
    "mlflow": ("main", "mlflow_tracking_url", "MLFLOW_TRACKING_URI", "sqlite:///mlflow.db"),
}
NULLS = re.compile(r"^ *(?:log_url|mlflow_tracking_url) *: *null *(?:#.*)?$")
"""Lines of both keys with their default. They need no YAML library, which may be missing."""


def read_databases(pairs: str | None, root: Path = ROOT) -> dict[str, tuple[str, str]]:
    """Return the kind and the address of each database by its name. Empty `pairs` stand for the configuration.

    The configuration takes precedence over the environment, as in serve/run.py and the store settings. Overrides on
    command lines are unknown here.

    Raises:
        SourceUnreadable: an address is not a database, or the configuration cannot be read.
    """
    addresses = {
        name: read_config_value(section, key, root) or os.environ.get(variable) or default
        for name, (section, key, variable, default) in ({} if pairs else KEYS).items()
    }
    for pair in re.split(r"\s+(?=\w+=\w)", pairs.strip()) if pairs else []:
        name, _, addresses[name] = pair.partition("=")
    return {name: _parse_address(name, address, root) for name, address in addresses.items()}


def read_config_value(section: str, key: str, root: Path = ROOT) -> str:
    """Return a key of config.yaml, or "" if it is null or missing. Raise SourceUnreadable if it cannot be read."""
    path = root / CONFIG
    text = path.read_text(encoding="utf-8-sig", errors="replace") if path.is_file() else ""
    if all(NULLS.match(line) for line in text.splitlines() if re.search("log_url|mlflow_tracking_url", line)):
        return ""
    try:
        import yaml

        value = ((yaml.safe_load(text) or {}).get(section) or {}).get(key) or ""
    except Exception as error:  # The library is missing, or the file is not a YAML mapping: one remedy for all.
        raise SourceUnreadable(f"{path}: {section}.{key}: cannot be read ({error}). {REMEDY}") from error
    if not isinstance(value, str) or "${" in value:
        raise SourceUnreadable(f"{path}: {section}.{key}: not a plain URL. {REMEDY}")
    return value


def _parse_address(name: str, address: str, root: Path) -> tuple[str, str]:
    scheme, _, place = address.partition("://")
    if file := find_sqlite_file(address, root):
        return "sqlite", str(file)
    if scheme.partition("+")[0] == "postgresql":
        return "postgresql", f"postgresql://{place}"
    raise SourceUnreadable(
        f"{name}: {scheme}://... is not a database that this command can save. Save the databases of a server on its "
        f"machine (in the stack: make stack-backup). {REMEDY}"
    )

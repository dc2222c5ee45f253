"""The databases that are saved: by default those that the product itself uses, found as it finds them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from backup.errors import SourceUnreadable
from stepkit.paths import ROOT, find_sqlite_file

CONFIG = "config.yaml"
DATABASES = "BACKUP_DATABASES"
"""NAME=ADDRESS, separated by blanks, in the order of saving: a database before those that it refers to."""

REMEDY = f"Name the databases: {DATABASES}='predictions=sqlite:///FILE mlflow=sqlite:///FILE'"

KEYS = {
    "predictions": ("serve", "log_url", "PREDICTION_LOG_URL", "sqlite:///predictions.db"),
    "mlflow": ("main", "mlflow_tracking_url", "MLFLOW_TRACKING_URI", "sqlite:///mlflow.db"),
}
NULLS = re.compile(r"^ *(?:log_url|mlflow_tracking_url) *: *null *(?:#.*)?$")
"""The line of a key as the project has it, known without a library for YAML."""


def read_databases(given: str | None, root: Path = ROOT) -> dict[str, tuple[str, str]]:
    """Return kind and address of each database by its name.

    The configuration wins over the environment, as in serve/run.py and the store settings. An override on a command
    line is not known here.

    Raises:
        SourceUnreadable: an address of no database, or a configuration that cannot be read.
    """
    addresses = {
        name: read_config_value(section, key, root) or os.environ.get(variable) or default
        for name, (section, key, variable, default) in ({} if given else KEYS).items()
    }
    for pair in re.split(r"\s+(?=\w+=\w)", given.strip()) if given else []:
        name, _, addresses[name] = pair.partition("=")
    return {name: _parse_address(name, address, root) for name, address in addresses.items()}


def read_config_value(section: str, key: str, root: Path = ROOT) -> str:
    """Return a key of config.yaml, nothing if null or missing; raise SourceUnreadable if it cannot be read."""
    path = root / CONFIG
    text = path.read_text(encoding="utf-8-sig", errors="replace") if path.is_file() else ""
    if all(NULLS.match(line) for line in text.splitlines() if re.search("log_url|mlflow_tracking_url", line)):
        return ""
    try:
        import yaml

        value = ((yaml.safe_load(text) or {}).get(section) or {}).get(key) or ""
    except Exception as error:  # no such library, no YAML, no mapping: the remedy is the same
        raise SourceUnreadable(f"{path}: {section}.{key} cannot be read here ({error}). {REMEDY}") from error
    if not isinstance(value, str) or "${" in value:
        raise SourceUnreadable(f"{path}: {section}.{key} is not one plain address. {REMEDY}")
    return value


def _parse_address(name: str, address: str, root: Path) -> tuple[str, str]:
    scheme, _, place = address.partition("://")
    if file := find_sqlite_file(address, root):
        return "sqlite", str(file)
    if scheme.partition("+")[0] == "postgresql":
        return "postgresql", f"postgresql://{place}"
    raise SourceUnreadable(
        f"{name}: {scheme}://... is not a database that can be saved. A server's databases are saved where it runs "
        f"(in the stack: make stack-backup). {REMEDY}"
    )

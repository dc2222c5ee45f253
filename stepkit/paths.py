"""Places: the repository, paths relative to it, the files behind SQLite addresses. Needs Python alone."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from stepkit.errors import BadParameter

ROOT = Path(__file__).resolve().parents[1]
ARTIFACTS = "mlruns"
"""The folder of artifacts, next to the store that names them."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def resolve_path(place: str) -> str:
    """Return a path as an absolute one: a relative one means below the repository, `~` the home folder.

    An address stays as it is.
    """
    if "://" in place or place.startswith("runs:/"):
        return place
    home = place == "~" or place.startswith("~/")
    return str((ROOT / (Path(place).expanduser() if home else place)).resolve())


def verify_mlflow_path(folder: Path) -> None:
    """Raise BadParameter for a folder below which MLflow misreads every path."""
    if "%" in str(folder):
        raise BadParameter(f"{folder}: MLflow cannot use a path with '%'. Move or rename the folder, then try again.")


def make_sqlite_url(file: Path) -> str:
    """Return the address of an SQLite file, for SQLAlchemy and MLflow.

    SQLAlchemy decodes `%` and reads options behind `?`, so these two are encoded. MLflow then makes a folder of the
    encoded name, unless the address names the driver.
    """
    path = str(file).replace("%", "%25").replace("?", "%3F")
    return f"sqlite{'' if path == str(file) else '+pysqlite'}:///{path}"


def find_sqlite_file(address: str, base: Path = ROOT) -> Path | None:
    """Return the file of an SQLite address (a relative one is in `base`); None for every other address."""
    scheme, _, place = address.partition(":///")
    name = unquote(place.partition("?")[0])
    if scheme.lower() not in ("sqlite", "sqlite+pysqlite") or name in ("", ":memory:"):
        return None
    return (base / name).resolve()


def resolve_store_url(address: str) -> str:
    """Return the one spelling of a store's address: absolute, so that each step's working directory has no effect."""
    file = find_sqlite_file(address)
    if file is None:
        return address
    _, mark, options = address.partition("?")
    return f"{make_sqlite_url(file)}{mark}{options}"


def to_artifact_path(location: str) -> Path | None:
    """Return the local path that MLflow makes of a location in its store (it decodes plain paths too), else None."""
    if location.startswith("file:"):
        return Path(unquote(urlsplit(location).path))
    return None if _SCHEME.match(location) or not location else Path(unquote(location))


def to_artifact_location(path: Path) -> str:
    """Return the location by which MLflow finds a local path."""
    return path.as_uri() if "%" in str(path) else str(path)

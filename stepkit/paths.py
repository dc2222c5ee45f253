"""Paths: relative to the repository, of SQLite URLs, and of artifacts. Needs only the standard library."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from stepkit.errors import BadParameter

ROOT = Path(__file__).resolve().parents[1]
ARTIFACTS = "mlruns"
"""Folder of the artifacts, next to the file of the tracking store."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def resolve_path(path: str) -> str:
    """Return an absolute path: a relative path starts in the repository, `~` is the home folder.

    A URL is returned unchanged.
    """
    if "://" in path or path.startswith("runs:/"):
        return path
    is_in_home = path == "~" or path.startswith("~/")
    return str((ROOT / (Path(path).expanduser() if is_in_home else path)).resolve())


def verify_mlflow_path(folder: Path) -> None:
    """Raise BadParameter for a folder whose path MLflow would misread."""
    if "%" in str(folder):
        raise BadParameter(f"{folder}: MLflow cannot use a path with '%'. Move or rename the folder, then try again.")


def make_sqlite_url(file: Path) -> str:
    """Return the URL of an SQLite file, for SQLAlchemy and MLflow.

    SQLAlchemy decodes `%` and parses options after `?`, so both characters are encoded. MLflow would then create a
    folder with the encoded name, unless the URL names the driver.
    """
    path = str(file).replace("%", "%25").replace("?", "%3F")
    return f"sqlite{'' if path == str(file) else '+pysqlite'}:///{path}"


def find_sqlite_file(url: str, base: Path = ROOT) -> Path | None:
    """Return the file of an SQLite URL (a relative path starts in `base`), or None for any other URL."""
    scheme, _, location = url.partition(":///")
    name = unquote(location.partition("?")[0])
    if scheme.lower() not in ("sqlite", "sqlite+pysqlite") or name in ("", ":memory:"):
        return None
    return (base / name).resolve()


def resolve_store_url(url: str) -> str:
    """Return the URL of a store with an absolute path, which is independent of a step's working directory."""
    file = find_sqlite_file(url)
    if file is None:
        return url
    _, mark, options = url.partition("?")
    return f"{make_sqlite_url(file)}{mark}{options}"


def to_artifact_path(location: str) -> Path | None:
    """Return the local path of an artifact location in MLflow's store, or None for a remote one.

    MLflow decodes plain paths too, not only `file:` URLs.
    """
    if location.startswith("file:"):
        return Path(unquote(urlsplit(location).path))
    return None if _SCHEME.match(location) or not location else Path(unquote(location))


def to_artifact_location(path: Path) -> str:
    """Return the location under which MLflow finds a local path."""
    return path.as_uri() if "%" in str(path) else str(path)

"""Artifacts that an MLflow store refers to: their locations, and their places in a backup."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from backup.databases import query
from stepkit.paths import to_artifact_path
from stepkit.store.relocate import get_artifact_suffix

NamedArtifacts = tuple[str, str, list[str]]
"""Owner of artifacts (run, model or version), their location, and the required files."""

FOLDER = "artifacts"
HIDDEN_PREFIXES = (".before-", ".restore-")
"""Prefixes of the folders of a restore. They are among the artifacts, because a volume cannot be renamed."""

SERVED_PREFIX = "mlflow-artifacts:/"
"""Prefix of locations that a tracking server resolves in its own artifact folder."""

NAMED_ARTIFACTS_SQL = """
SELECT 'run ' || r.run_uuid, r.artifact_uri, substr(t.key, 8) FROM runs r
  LEFT JOIN tags t ON t.run_uuid = r.run_uuid AND t.key LIKE 'output.%' WHERE r.lifecycle_stage = 'active'

UNION ALL SELECT 'model ' || m.model_id, m.artifact_location, COALESCE(t.value, '{"MLmodel": 0}') FROM logged_models m
  LEFT JOIN tags t ON t.run_uuid = m.source_run_id AND t.key = 'model_files'
  WHERE m.lifecycle_stage = 'active' AND m.status = 2

UNION ALL SELECT name || ' version ' || CAST(version AS VARCHAR), COALESCE(storage_location, source), 'MLmodel'
  FROM model_versions WHERE current_stage <> 'Deleted_Internal'"""
"""Each run, logged model (status 2: ready) and version, with its location and one file, or files as JSON keys."""

CHAMPIONS_SQL = """SELECT v.name, v.version, COALESCE(v.storage_location, v.source) FROM registered_model_aliases a
  JOIN model_versions v ON v.name = a.name AND v.version = a.version WHERE a.alias = 'champion'"""


def is_mlflow_store(database: dict[str, Any]) -> bool:
    """Return True if a database of a manifest belongs to MLflow. Format 1 lists its tables in `rows`."""
    return {"runs", "model_versions"} <= set(database.get("tables", database.get("rows", ())))


def iter_named_artifacts(kind: str, address: str) -> Iterator[NamedArtifacts]:
    """Yield the artifacts that a store refers to."""
    for owner, location, names in query(kind, address, NAMED_ARTIFACTS_SQL):
        yield owner, location, list(json.loads(names)) if names.startswith("{") else [names] if names else []


def find_place(location: str, root: Path) -> tuple[Path | None, str]:
    """Return the folder of a location (None: not on this machine), and its path in the artifacts of a backup."""
    if location.startswith(SERVED_PREFIX):
        target = location.removeprefix(SERVED_PREFIX).lstrip("/")
        return root / target, target
    source = to_artifact_path(location)
    if source and source.is_relative_to(root):
        return source, source.relative_to(root).as_posix()
    return source, get_artifact_suffix(source) if source else ""


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder while it changes. The final check of a backup reports deleted files that are still needed."""
    for path in list_files(source):
        copied = target / path.relative_to(source)
        copied.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            shutil.copy2(path, copied)


def list_files(folder: Path) -> list[Path]:
    """Return all files in a folder, except those that a restore moved aside."""
    paths = (path for path in folder.rglob("*") if not path.relative_to(folder).parts[0].startswith(HIDDEN_PREFIXES))
    return sorted(path for path in paths if path.is_file())

"""Artifacts that an MLflow store names: where they are, and where a backup keeps them."""

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
"""Who has artifacts, their location, and files that must be there."""

FOLDER = "artifacts"
HIDDEN_PREFIXES = (".before-", ".restore-")
"""How the folders begin that a restore puts among the artifacts: a volume itself cannot be renamed."""

SERVED_PREFIX = "mlflow-artifacts:/"
"""How locations begin that a tracking server resolves below its own folder of artifacts."""

NAMED_ARTIFACTS_SQL = """
SELECT 'run ' || r.run_uuid, r.artifact_uri, substr(t.key, 8) FROM runs r
  LEFT JOIN tags t ON t.run_uuid = r.run_uuid AND t.key LIKE 'output.%' WHERE r.lifecycle_stage = 'active'
UNION ALL SELECT 'model ' || m.model_id, m.artifact_location, COALESCE(t.value, '{"MLmodel": 0}') FROM logged_models m
  LEFT JOIN tags t ON t.run_uuid = m.source_run_id AND t.key = 'model_files'
  WHERE m.lifecycle_stage = 'active' AND m.status = 2
UNION ALL SELECT name || ' version ' || CAST(version AS VARCHAR), COALESCE(storage_location, source), 'MLmodel'
  FROM model_versions WHERE current_stage <> 'Deleted_Internal'"""
"""Each run, logged model (2: it is ready) and version, its location, and a file in it, or files as keys of JSON."""

CHAMPIONS_SQL = """SELECT v.name, v.version, COALESCE(v.storage_location, v.source) FROM registered_model_aliases a
  JOIN model_versions v ON v.name = a.name AND v.version = a.version WHERE a.alias = 'champion'"""


def is_mlflow_store(database: dict[str, Any]) -> bool:
    """Return whether a database of a manifest is MLflow's (in format 1, `rows` has the number of rows by table)."""
    return {"runs", "model_versions"} <= set(database.get("tables", database.get("rows", ())))


def iter_named_artifacts(kind: str, address: str) -> Iterator[NamedArtifacts]:
    """Yield everything that a store names."""
    for owner, location, names in query(kind, address, NAMED_ARTIFACTS_SQL):
        yield owner, location, list(json.loads(names)) if names.startswith("{") else [names] if names else []


def find_place(location: str, root: Path) -> tuple[Path | None, str]:
    """Return the folder behind a location (None: not on this machine), and its place in a backup's artifacts."""
    if location.startswith(SERVED_PREFIX):
        target = location.removeprefix(SERVED_PREFIX).lstrip("/")
        return root / target, target
    source = to_artifact_path(location)
    if source and source.is_relative_to(root):
        return source, source.relative_to(root).as_posix()
    return source, get_artifact_suffix(source) if source else ""


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder that changes meanwhile: a file that vanishes was temporary, or is missing at the end."""
    for path in list_files(source):
        copied = target / path.relative_to(source)
        copied.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            shutil.copy2(path, copied)


def list_files(folder: Path) -> list[Path]:
    """Return all files in a folder but those that a restore put aside there."""
    found = (path for path in folder.rglob("*") if not path.relative_to(folder).parts[0].startswith(HIDDEN_PREFIXES))
    return sorted(path for path in found if path.is_file())

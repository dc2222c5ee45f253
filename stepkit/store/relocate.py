"""Artifact locations in an MLflow store on SQLite, updated after the store was moved.

MLflow stores absolute paths, so a store that was moved with its folder would still write to the old folder.
Needs only the standard library.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from stepkit.paths import ARTIFACTS, to_artifact_location, to_artifact_path

WAIT_SECONDS = 20.0
ELSEWHERE = "elsewhere"
"""Folder of a backup for artifacts that were not in a folder `mlruns`."""

EXPERIMENT, RUNNING = "experiment", "RUNNING"
LOCATIONS = [
    (f"SELECT rowid, {column}, {owner} FROM {table}", f"UPDATE {table} SET {column} = ? WHERE rowid = ?")
    for table, column, owner in (
        ("experiments", "artifact_location", "'experiment'"),
        ("runs", "artifact_uri", "status"),
        ("logged_models", "artifact_location", "''"),
        ("model_versions", "storage_location", "''"),
        ("model_versions", "source", "''"),
    )
]


def relocate_store(store: Path) -> int:
    """Point the locations of a store to `mlruns` next to it, in one transaction; return the number of changes.

    New artifacts are always written there. The location of existing artifacts changes only if the same artifacts
    exist there.

    Raises:
        sqlite3.Error: the file is not an MLflow store, or a change is needed and the file is not writable.
    """
    prefix = f"{store.parent / ARTIFACTS}/"
    with closing(sqlite3.connect(store, timeout=WAIT_SECONDS)) as connection, connection:
        for select, update in LOCATIONS:
            for row, location, owner in connection.execute(select).fetchall():
                path = None if not location or location.startswith(prefix) else to_artifact_path(location)
                if path and (new_path := _find_new_path(path, owner, store.parent)):
                    connection.execute(update, (to_artifact_location(new_path), row))
        return connection.total_changes


def get_artifact_suffix(path: Path) -> str:
    """Return the part of a path after its last `mlruns`. It contains ids, so one folder can hold all artifacts."""
    parts = path.parts
    if ARTIFACTS in parts:
        return "/".join(parts[len(parts) - parts[::-1].index(ARTIFACTS) :])
    return "/".join([ELSEWHERE, *parts[1:]])


def _find_new_path(path: Path, owner: str, folder: Path) -> Path | None:
    target = folder / ARTIFACTS / get_artifact_suffix(path)
    # MLflow replaces the source of a deleted version by a single word, REDACTED-SOURCE-PATH.
    if path == target or len(path.parts) == 1:
        return None
    if target.exists():
        return target
    if owner == EXPERIMENT and path.parent.name == ARTIFACTS:
        # Earlier releases wrote into the folder of the step that created the store.
        return target if not path.exists() or (path.parents[1] / "MLproject").is_file() else None
    if owner == RUNNING and ARTIFACTS in path.parts and not path.exists():
        return target
    suffix = target.relative_to(folder)
    step_path = folder / path.parts[len(path.parts) - len(suffix.parts) - 1] / suffix
    return step_path if not path.exists() and step_path.exists() else None

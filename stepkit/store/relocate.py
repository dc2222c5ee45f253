"""Locations of artifacts in an MLflow store on SQLite, and a store that was moved.

MLflow writes absolute paths into its store, so a store that moves with its folder would still write to the old one.
Needs Python alone.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from stepkit.paths import ARTIFACTS, to_artifact_location, to_artifact_path

WAIT_SECONDS = 20.0
ELSEWHERE = "elsewhere"
"""Where a backup keeps artifacts that were not in a folder `mlruns`."""

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
    """Let the locations of a store name `mlruns` next to it, in one transaction; return how many have changed.

    New artifacts are always written there. The location of existing artifacts changes only if the same artifacts
    exist there.

    Raises:
        sqlite3.Error: not a store of MLflow's, or it must be changed and cannot be written.
    """
    here = f"{store.parent / ARTIFACTS}/"
    with closing(sqlite3.connect(store, timeout=WAIT_SECONDS)) as connection, connection:
        for select, update in LOCATIONS:
            for row, location, owner in connection.execute(select).fetchall():
                path = None if not location or location.startswith(here) else to_artifact_path(location)
                if path and (place := _find_new_path(path, owner, store.parent)):
                    connection.execute(update, (to_artifact_location(place), row))
        return connection.total_changes


def get_artifact_suffix(path: Path) -> str:
    """Return the part of a path behind its last `mlruns`: the ids there differ, so one folder can hold all."""
    parts = path.parts
    if ARTIFACTS in parts:
        return "/".join(parts[len(parts) - parts[::-1].index(ARTIFACTS) :])
    return "/".join([ELSEWHERE, *parts[1:]])


def _find_new_path(path: Path, owner: str, folder: Path) -> Path | None:
    here = folder / ARTIFACTS / get_artifact_suffix(path)
    if path == here:
        return None
    if here.exists():
        return here
    if owner == EXPERIMENT and path.parent.name == ARTIFACTS:
        # earlier code wrote into the folder of the step that made the store
        return here if not path.exists() or (path.parents[1] / "MLproject").is_file() else None
    if owner == RUNNING and ARTIFACTS in path.parts and not path.exists():
        return here
    step = folder / path.parts[len(path.parts) - len(here.relative_to(folder).parts) - 1] / here.relative_to(folder)
    return step if not path.exists() and step.exists() else None

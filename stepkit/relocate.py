"""Locations of artifacts in an MLflow store on SQLite: read them, and follow a checkout that was moved.

MLflow writes absolute paths into its store, so a store that moves with its folder would still write to the old one.
Needs Python alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from stepkit.places import ARTIFACTS, artifact_location, artifact_path

WAIT_SECONDS = 20.0
EXPERIMENTS, RUNNING, DONE = "experiments", "running", "done"
"""Who keeps a location: an experiment and a running run will write there, everything else has written."""

LOCATIONS = (
    (
        "SELECT rowid, artifact_location, 'experiments' FROM experiments",
        "UPDATE experiments SET artifact_location = ? WHERE rowid = ?",
    ),
    (
        "SELECT rowid, artifact_uri, CASE status WHEN 'RUNNING' THEN 'running' ELSE 'done' END FROM runs",
        "UPDATE runs SET artifact_uri = ? WHERE rowid = ?",
    ),
    (
        "SELECT rowid, artifact_location, 'done' FROM logged_models",
        "UPDATE logged_models SET artifact_location = ? WHERE rowid = ?",
    ),
    (
        "SELECT rowid, storage_location, 'done' FROM model_versions",
        "UPDATE model_versions SET storage_location = ? WHERE rowid = ?",
    ),
    ("SELECT rowid, source, 'done' FROM model_versions", "UPDATE model_versions SET source = ? WHERE rowid = ?"),
)

NewPlace = Callable[[Path, str], Path | None]


def relocate(store: Path, new_place: NewPlace, but: str = "") -> int:
    """Change each local location for which `new_place` names another path, in one transaction; return their number.

    Args:
        but: a folder; locations that begin with it are not looked at.

    Raises:
        sqlite3.Error: no MLflow store, or it cannot be written.
    """
    with closing(sqlite3.connect(store, timeout=WAIT_SECONDS)) as connection, connection:
        changes = [
            (update, artifact_location(place), row)
            for select, update in LOCATIONS
            for row, location, keeper in connection.execute(select)
            if location
            and not (but and location.startswith(but))
            and (path := artifact_path(location))
            and (place := new_place(path, keeper))
            and place != path
        ]
        for update, location, row in changes:
            connection.execute(update, (location, row))
    return len(changes)


def settle(store: Path) -> int:
    """Let the locations of a store that was moved, or made by a command in another folder, name its own folder.

    The place of new artifacts is always `mlruns` next to the store. A location of artifacts that exist changes only if
    the same artifacts exist here.
    """
    return relocate(store, lambda path, keeper: _here(path, keeper, store.parent), f"{store.parent / ARTIFACTS}/")


def _here(path: Path, keeper: str, folder: Path) -> Path | None:
    if ARTIFACTS not in path.parts or path.is_relative_to(folder / ARTIFACTS):
        return None
    index = len(path.parts) - 1 - path.parts[::-1].index(ARTIFACTS)
    here = folder.joinpath(*path.parts[index:])
    if here.exists():
        return here
    if keeper == EXPERIMENTS and path.name.isdigit() and path.parent.name == ARTIFACTS:
        # earlier code wrote to the folder of the step that made the store
        of_a_project = (path.parent.parent / "MLproject").is_file()
        return here if of_a_project or not path.exists() else None
    if keeper == RUNNING and not path.exists():
        return here
    moved = folder.joinpath(*path.parts[index - 1 :])  # a step's own mlruns, written by earlier code
    return moved if not path.exists() and moved.exists() else None

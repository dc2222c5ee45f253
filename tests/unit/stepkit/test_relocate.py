"""A store that was moved, copied, or made by a command in another folder names its own folder."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from stepkit.store.relocate import settle

TABLES = """
CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, artifact_location TEXT);
CREATE TABLE runs (run_uuid TEXT, artifact_uri TEXT, status TEXT);
CREATE TABLE logged_models (model_id TEXT, artifact_location TEXT);
CREATE TABLE model_versions (name TEXT, storage_location TEXT, source TEXT);"""
RUN, MODEL = "1/run/artifacts", "1/models/m/artifacts"


def store_at(folder: Path, root: str, status: str = "FINISHED") -> Path:
    """A store in `folder` that names artifacts below `root`."""
    folder.mkdir(exist_ok=True)
    store = folder / "mlflow.db"
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.executescript(TABLES)
        connection.execute("INSERT INTO experiments VALUES (1, ?)", (f"{root}/1",))
        connection.execute("INSERT INTO runs VALUES ('run', ?, ?)", (f"{root}/{RUN}", status))
        connection.execute("INSERT INTO logged_models VALUES ('m', ?)", (f"{root}/{MODEL}",))
        connection.execute("INSERT INTO model_versions VALUES ('n', ?, 'models:/m')", (f"{root}/{MODEL}",))
    return store


def named_by(store: Path) -> list[str]:
    """The locations of experiment, run, model and version."""
    statement = """SELECT artifact_location FROM experiments UNION ALL SELECT artifact_uri FROM runs
        UNION ALL SELECT artifact_location FROM logged_models UNION ALL SELECT storage_location FROM model_versions"""
    with closing(sqlite3.connect(store)) as connection:
        return [location for (location,) in connection.execute(statement)]


def below(root: Path | str) -> list[str]:
    return [f"{root}/1", f"{root}/{RUN}", f"{root}/{MODEL}", f"{root}/{MODEL}"]


def make_artifacts(root: Path) -> None:
    for name in (RUN, MODEL):
        (root / name).mkdir(parents=True)


@pytest.mark.parametrize("folder", ["new", "set #1", "a?b", "ü b"])
@pytest.mark.parametrize("copied", [False, True])
def test_a_store_that_was_moved_or_copied_names_its_new_place(tmp_path: Path, folder: str, copied: bool) -> None:
    make_artifacts(tmp_path / folder / "mlruns")
    if copied:
        make_artifacts(tmp_path / "old" / "mlruns")
    store = store_at(tmp_path / folder, str(tmp_path / "old" / "mlruns"))
    assert settle(store) == 4
    assert named_by(store) == below(tmp_path / folder / "mlruns")
    assert settle(store) == 0


def test_a_location_that_mlflow_decodes_is_written_encoded(tmp_path: Path) -> None:
    make_artifacts(tmp_path / "f%2Fx" / "mlruns")
    store = store_at(tmp_path / "f%2Fx", "/gone/mlruns")
    settle(store)
    assert named_by(store) == below((tmp_path / "f%2Fx" / "mlruns").as_uri())


def test_artifacts_that_earlier_code_left_in_a_step_stay_and_new_ones_do_not_go_there(tmp_path: Path) -> None:
    step = tmp_path / "here" / "serve"
    make_artifacts(step / "mlruns")
    (step / "MLproject").touch()
    store = store_at(tmp_path / "here", str(step / "mlruns"))
    assert settle(store) == 1
    assert named_by(store) == [f"{tmp_path}/here/mlruns/1", *below(step / "mlruns")[1:]]


def test_they_are_found_after_a_move_too(tmp_path: Path) -> None:
    make_artifacts(tmp_path / "new" / "serve" / "mlruns")
    store = store_at(tmp_path / "new", "/gone/serve/mlruns")
    settle(store)
    assert named_by(store) == [f"{tmp_path}/new/mlruns/1", *below(tmp_path / "new" / "serve" / "mlruns")[1:]]


def test_a_run_that_is_about_to_write_does_not_recreate_the_old_place(tmp_path: Path) -> None:
    store = store_at(tmp_path / "new", "/gone/mlruns", status="RUNNING")
    settle(store)
    assert named_by(store)[:2] == below(tmp_path / "new" / "mlruns")[:2]


@pytest.mark.parametrize("root", ["s3://bucket/mlruns", "mlflow-artifacts:/"])
def test_locations_on_a_server_stay(tmp_path: Path, root: str) -> None:
    store = store_at(tmp_path / "new", root)
    assert settle(store) == 0


def test_artifacts_in_a_folder_of_the_users_choice_stay(tmp_path: Path) -> None:
    make_artifacts(tmp_path / "mine")
    store = store_at(tmp_path / "new", str(tmp_path / "mine"))
    assert settle(store) == 0

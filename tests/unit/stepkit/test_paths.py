"""SQLite URLs and artifact locations mean the same for this project, SQLAlchemy and MLflow."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.file_utils import local_file_uri_to_path
from sqlalchemy import make_url

from stepkit.errors import BadParameter
from stepkit.paths import (
    ROOT,
    find_sqlite_file,
    make_sqlite_url,
    resolve_store_url,
    to_artifact_location,
    to_artifact_path,
    verify_mlflow_path,
)
from stepkit.store.relocate import relocate_store

NAMES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="/\0\n\r"), min_size=1), min_size=1, max_size=3
)
PATHS = NAMES.filter(lambda names: not {".", ".."} & {*names}).map(lambda names: Path("/none", *names))
ODD = st.sampled_from(["set #1", "a?b", "5%", "feature%2Fx", "5%23", "a b", "ü", "it's", 'a"b', "x;y&z", "a=b", "c:d"])


@given(PATHS | ODD.map(lambda name: Path("/none") / name))
def test_the_address_of_a_file_leads_sqlalchemy_to_that_file(path: Path) -> None:
    assert make_url(make_sqlite_url(path)).database == str(path)
    assert find_sqlite_file(make_sqlite_url(path)) == path
    assert resolve_store_url(make_sqlite_url(path)) == make_sqlite_url(path)


@given(PATHS | ODD.map(lambda name: Path("/none") / name))
def test_the_location_of_artifacts_leads_mlflow_to_that_folder(path: Path) -> None:
    location = to_artifact_location(path)
    assert to_artifact_path(location) == path
    assert local_file_uri_to_path(location) == str(path)


@pytest.mark.parametrize(
    ("given_address", "expected"),
    [
        ("sqlite:///mlflow.db", f"sqlite:///{ROOT}/mlflow.db"),
        ("sqlite:////srv/a%20b/x.db", "sqlite:////srv/a b/x.db"),  # written by MLflow's command line as its default
        ("sqlite:////srv/x.db?timeout=20", "sqlite:////srv/x.db?timeout=20"),
        ("sqlite+pysqlite:////srv/a%3Fb/x.db", "sqlite+pysqlite:////srv/a%3Fb/x.db"),
        ("sqlite://", "sqlite://"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("postgresql://host/db", "postgresql://host/db"),
        ("", ""),
    ],
)
def test_a_store_has_one_spelling(given_address: str, expected: str) -> None:
    assert resolve_store_url(given_address) == expected


@pytest.mark.parametrize("location", ["", "s3://bucket/1", "mlflow-artifacts:/1", "models:/m-1", "runs:/1/a"])
def test_a_location_that_is_not_on_this_machine_has_no_path(location: str) -> None:
    assert to_artifact_path(location) is None


@pytest.mark.parametrize("name", ["5%", "feature%2Fx"])
def test_a_path_that_mlflow_misreads_is_rejected(name: str) -> None:
    with pytest.raises(BadParameter, match=f"{re.escape(name)}: MLflow cannot use a path with '%'"):
        verify_mlflow_path(Path("/srv") / name)


TABLES = """
CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, artifact_location TEXT);
CREATE TABLE runs (run_uuid TEXT, artifact_uri TEXT, status TEXT);
CREATE TABLE logged_models (model_id TEXT, artifact_location TEXT);
CREATE TABLE model_versions (name TEXT, storage_location TEXT, source TEXT);"""
RUN, MODEL = "1/run/artifacts", "1/models/m/artifacts"


def create_store(folder: Path, root: str, status: str = "FINISHED") -> Path:
    """Create a store in `folder` with artifact locations below `root`."""
    folder.mkdir(exist_ok=True)
    store = folder / "mlflow.db"
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.executescript(TABLES)
        connection.execute("INSERT INTO experiments VALUES (1, ?)", (f"{root}/1",))
        connection.execute("INSERT INTO runs VALUES ('run', ?, ?)", (f"{root}/{RUN}", status))
        connection.execute("INSERT INTO logged_models VALUES ('m', ?)", (f"{root}/{MODEL}",))
        connection.execute("INSERT INTO model_versions VALUES ('n', ?, 'models:/m')", (f"{root}/{MODEL}",))
    return store


def list_locations(store: Path) -> list[str]:
    """Return the locations of experiment, run, model and version."""
    statement = """SELECT artifact_location FROM experiments UNION ALL SELECT artifact_uri FROM runs
        UNION ALL SELECT artifact_location FROM logged_models UNION ALL SELECT storage_location FROM model_versions"""
    with closing(sqlite3.connect(store)) as connection:
        return [location for (location,) in connection.execute(statement)]


def make_locations(root: Path | str) -> list[str]:
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
    store = create_store(tmp_path / folder, str(tmp_path / "old" / "mlruns"))
    assert relocate_store(store) == 4
    assert list_locations(store) == make_locations(tmp_path / folder / "mlruns")
    assert relocate_store(store) == 0


def test_a_location_that_mlflow_decodes_is_written_encoded(tmp_path: Path) -> None:
    make_artifacts(tmp_path / "f%2Fx" / "mlruns")
    store = create_store(tmp_path / "f%2Fx", "/gone/mlruns")
    relocate_store(store)
    assert list_locations(store) == make_locations((tmp_path / "f%2Fx" / "mlruns").as_uri())


def test_artifacts_that_earlier_code_left_in_a_step_stay_and_new_ones_do_not_go_there(tmp_path: Path) -> None:
    step = tmp_path / "here" / "serve"
    make_artifacts(step / "mlruns")
    (step / "MLproject").touch()
    store = create_store(tmp_path / "here", str(step / "mlruns"))
    assert relocate_store(store) == 1
    assert list_locations(store) == [f"{tmp_path}/here/mlruns/1", *make_locations(step / "mlruns")[1:]]


def test_the_word_that_mlflow_writes_for_a_deleted_version_is_not_a_path(tmp_path: Path) -> None:
    store = create_store(tmp_path, "REDACTED-SOURCE-PATH")
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("UPDATE model_versions SET storage_location = 'REDACTED-SOURCE-PATH'")
    relocate_store(store)
    assert list_locations(store)[-1] == "REDACTED-SOURCE-PATH"


def test_they_are_found_after_a_move_too(tmp_path: Path) -> None:
    make_artifacts(tmp_path / "new" / "serve" / "mlruns")
    store = create_store(tmp_path / "new", "/gone/serve/mlruns")
    relocate_store(store)
    assert list_locations(store) == [
        f"{tmp_path}/new/mlruns/1",
        *make_locations(tmp_path / "new" / "serve" / "mlruns")[1:],
    ]


def test_a_run_that_is_about_to_write_does_not_recreate_the_old_place(tmp_path: Path) -> None:
    store = create_store(tmp_path / "new", "/gone/mlruns", status="RUNNING")
    relocate_store(store)
    assert list_locations(store)[:2] == make_locations(tmp_path / "new" / "mlruns")[:2]


@pytest.mark.parametrize("root", ["s3://bucket/mlruns", "mlflow-artifacts:/", "{folder}/mine"])
def test_locations_on_a_server_or_in_a_folder_of_the_users_choice_stay(tmp_path: Path, root: str) -> None:
    make_artifacts(tmp_path / "mine")
    assert relocate_store(create_store(tmp_path / "new", root.format(folder=tmp_path))) == 0

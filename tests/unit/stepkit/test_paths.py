"""Addresses of SQLite files and locations of artifacts mean the same for this project, SQLAlchemy and MLflow."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.file_utils import local_file_uri_to_path
from sqlalchemy import make_url

from stepkit.errors import BadParameter
from stepkit.paths import (
    ROOT,
    artifact_location,
    artifact_path,
    expect_usable,
    sqlite_address,
    sqlite_file,
    store_address,
)

NAMES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="/\0\n\r"), min_size=1), min_size=1, max_size=3
)
PATHS = NAMES.filter(lambda names: not {".", ".."} & {*names}).map(lambda names: Path("/none", *names))
ODD = st.sampled_from(["set #1", "a?b", "5%", "feature%2Fx", "5%23", "a b", "ü", "it's", 'a"b', "x;y&z", "a=b", "c:d"])


@given(PATHS | ODD.map(lambda name: Path("/none") / name))
def test_the_address_of_a_file_leads_sqlalchemy_to_that_file(path: Path) -> None:
    assert make_url(sqlite_address(path)).database == str(path)
    assert sqlite_file(sqlite_address(path)) == path
    assert store_address(sqlite_address(path)) == sqlite_address(path)


@given(PATHS | ODD.map(lambda name: Path("/none") / name))
def test_the_location_of_artifacts_leads_mlflow_to_that_folder(path: Path) -> None:
    location = artifact_location(path)
    assert artifact_path(location) == path
    assert local_file_uri_to_path(location) == str(path)


@pytest.mark.parametrize(
    ("given_address", "expected"),
    [
        ("sqlite:///mlflow.db", f"sqlite:///{ROOT}/mlflow.db"),
        ("sqlite:////srv/a%20b/x.db", "sqlite:////srv/a b/x.db"),  # as MLflow's command line writes its own default
        ("sqlite:////srv/x.db?timeout=20", "sqlite:////srv/x.db?timeout=20"),
        ("sqlite+pysqlite:////srv/a%3Fb/x.db", "sqlite+pysqlite:////srv/a%3Fb/x.db"),
        ("sqlite://", "sqlite://"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("postgresql://host/db", "postgresql://host/db"),
        ("", ""),
    ],
)
def test_a_store_has_one_spelling(given_address: str, expected: str) -> None:
    assert store_address(given_address) == expected


@pytest.mark.parametrize("location", ["", "s3://bucket/1", "mlflow-artifacts:/1", "models:/m-1", "runs:/1/a"])
def test_a_location_that_is_not_on_this_machine_has_no_path(location: str) -> None:
    assert artifact_path(location) is None


@pytest.mark.parametrize("name", ["5%", "feature%2Fx"])
def test_a_path_that_mlflow_misreads_is_rejected(name: str) -> None:
    with pytest.raises(BadParameter, match=f"{re.escape(name)}: MLflow cannot use a path with '%'"):
        expect_usable(Path("/srv") / name)

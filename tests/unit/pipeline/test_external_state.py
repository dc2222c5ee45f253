"""pipeline.external_state: the version of the source data."""

from __future__ import annotations

import hashlib
from pathlib import Path

import fsspec
import pytest
from mlflow import MlflowClient

from pipeline.config import parse_config
from pipeline.external_state import StepContext, describe_source
from tests.support.small_data import compose_config

pytestmark = pytest.mark.slow


def find_version(url: str) -> str:
    config = parse_config(compose_config(f"data.file_url={url}"))
    return describe_source(StepContext(MlflowClient("sqlite://"), config, "0", {}))["source"]


def test_a_file_is_known_by_its_digest(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a\n1\n")
    digest = f"sha256:{hashlib.sha256(table.read_bytes()).hexdigest()}"
    assert find_version(str(table)) == find_version(table.as_uri()) == digest
    assert find_version(str(tmp_path / "none.csv")) == ""


def test_a_table_in_a_store_is_known_by_what_the_store_says_of_it() -> None:
    store, url = fsspec.filesystem("memory"), "memory://folder/table.csv"
    try:
        store.pipe("/folder/table.csv", b"a\n1\n")
        first = find_version(url)
        assert first == find_version(url) != ""
        store.pipe("/folder/table.csv", b"a\n1\n2\n")
        assert find_version(url) not in ("", first)
    finally:
        store.rm("/folder", recursive=True)
    assert find_version(url) == ""

"""stepkit.tracking: which store is meant, and telling a server that is gone from one that refuses."""

from __future__ import annotations

import mlflow
import pytest
import requests
from mlflow.exceptions import MlflowException

from stepkit.tracking import ROOT, connect, is_unreachable


@pytest.mark.parametrize(
    ("error", "gone"),
    [
        (requests.ConnectionError("x"), True),
        (requests.Timeout("x"), True),
        (MlflowException("API request to http://x/api failed with exception Max retries exceeded"), True),
        (MlflowException("Run with id=1f not found"), False),
        (OSError("No such artifact"), False),
        (FileNotFoundError("Connection refused"), False),
    ],
    ids=str,
)
def test_only_an_answer_that_never_came_means_unreachable(error: Exception, gone: bool) -> None:
    assert is_unreachable(error) is gone


def test_relative_sqlite_file_is_one_file_for_every_step() -> None:
    before = mlflow.get_tracking_uri()
    try:
        assert connect("sqlite:///mine.db") == f"sqlite:///{ROOT / 'mine.db'}"
    finally:
        mlflow.set_tracking_uri(before)

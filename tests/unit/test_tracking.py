"""stepkit.tracking: which store is meant, and telling a server that is gone from one that refuses."""

from __future__ import annotations

import mlflow
import pytest
import requests
from mlflow.exceptions import MlflowException

from stepkit.places import ROOT
from stepkit.tracking import connect, gone, is_unreachable


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


@pytest.mark.parametrize(
    "error",
    [
        requests.ConnectionError("refused"),
        MlflowException("API request to /api/2.0/mlflow-artifacts/artifacts/1/a failed: Internal Server Error", 500),
        MlflowException("API request to /api/2.0/mlflow-artifacts/artifacts/1/a failed: too many 500 error responses"),
    ],
)
def test_a_server_that_is_gone_is_named_without_its_password(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "http://me:XqSECRETqX@127.0.0.1:9")
    said = str(gone(error))
    assert "http://127.0.0.1:9" in said
    assert "SECRET" not in said

"""Follower of a registry that has no model, has a bad model, or is unavailable."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from serve.http import last_model
from serve.http.model_follower import Follower
from serve.http.shutdown import SUPERVISOR_VARIABLE
from serve.settings import METRICS_FOLDER_VARIABLE, ServeSettings
from stepkit.processes import find_free_port
from tests.support.servers import wait_until
from training.export import make_signature


def write_raising_model(error: str, folder: Path, module: str) -> Path:
    """Write a model whose code raises an error when it is loaded; return its folder."""
    (folder / "code").mkdir(parents=True)
    (folder / "code" / f"{module}.py").write_text(f"import requests\ndef _load_pyfunc(path): raise {error}\n")
    (folder / "settings.json").write_text(json.dumps({"columns": ["AGE"], "text": [], "threshold": 0.5}))
    files = {name: {"path": f"{name}.json"} for name in ("settings", "onnx")}
    flavor = {"loader_module": module, "code": "code", "artifacts": files}
    signature = make_signature(["AGE"], []).to_dict()
    (folder / "MLmodel").write_text(json.dumps({"flavors": {"python_function": flavor}, "signature": signature}))
    return folder


@pytest.fixture
def no_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{find_free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    yield
    mlflow.set_tracking_uri(before)


@pytest.mark.usefixtures("no_registry")
def test_garbage_is_collected_again_after_the_first_look_whatever_it_found() -> None:
    follower = Follower(ServeSettings(model_name="m"))
    gc.disable()  # as run.py does before it imports the scorer
    try:
        follower.start()
        wait_until(gc.isenabled, "garbage is collected", 30)
    finally:
        follower.stop()
        gc.enable()
    assert "registry (TrackingUnreachable: " in follower.describe()["waiting_for"]


def test_a_refused_version_is_shown_without_the_secrets_in_the_reason(
    store: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    error = "ValueError('no model at https://store/model?X-Amz-Signature=0123456789abcdef')"
    files = write_raising_model(error, tmp_path / "model", "names_a_secret")
    client = MlflowClient(store)
    client.create_registered_model("secretive")
    client.create_model_version("secretive", str(files))
    client.set_registered_model_alias("secretive", "champion", "1")
    follower = Follower(ServeSettings(model_name="secretive"))
    follower.poll_once()
    assert [refused["version"] for refused in follower.describe()["refused"]] == ["1"]
    shown = str(follower.describe()) + capfd.readouterr().out
    assert "no model at https://store/model" in shown
    assert "0123456789abcdef" not in shown


@pytest.mark.usefixtures("no_registry")
def test_the_follower_outlives_a_failure_to_load_the_copy_of_another_worker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(SUPERVISOR_VARIABLE, "1")
    monkeypatch.setenv(METRICS_FOLDER_VARIABLE, str(tmp_path))
    error = "requests.ConnectionError('the line is lost')"
    last_model.save_copy("1", write_raising_model(error, tmp_path / "model", "loses_the_line"))
    follower = Follower(ServeSettings(model_name="m"))
    follower.poll_once()
    assert "the line is lost" in follower.describe()["waiting_for"]

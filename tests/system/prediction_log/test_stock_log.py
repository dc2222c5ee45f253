"""Stock MLflow also writes the prediction log: the model contains the code, which logs only if it is served."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import requests

from prediction_log.read import read_log
from random_forest.run import KIND
from stepkit.processes import find_free_port
from stepkit.settings.model import Forest, RandomForestSettings
from stepkit.table.columns import Column, Columns
from stepkit.table.tables import to_model_input
from tests.conftest import Experiment, make_command_env, run_command
from tests.support.servers import wait_until
from training.export import export_model

COLUMNS = Columns(
    source_target="default",
    target="default",
    columns={"job": Column(type="text", role="categorical"), "AGE": Column(), "LIMIT_BAL": Column(type="float")},
)
ROWS = pd.DataFrame(
    {"job": ["cook", "smith"] * 5, "AGE": range(20, 30), "LIMIT_BAL": [1e4, None] * 5, "default": [0, 1] * 5}
)
REQUEST: Any = {
    "dataframe_records": [{"job": "cook", "AGE": 24, "LIMIT_BAL": None}, {"job": None, "AGE": 30, "LIMIT_BAL": 5.5}]
}


@pytest.fixture
def model(experiment: Experiment, tmp_path: Path) -> str:
    """Register a model; the URI of its version 1."""
    settings = RandomForestSettings(calibration="none", random_forest=Forest(n_estimators=3, max_depth=2, n_jobs=1))
    fitted = KIND.fit(settings, COLUMNS, to_model_input(ROWS, COLUMNS), ROWS["default"].to_numpy(), random_seed=1)
    folder = tmp_path / "export"
    folder.mkdir()
    with mlflow.start_run():
        info, _ = export_model(fitted, settings, COLUMNS, ROWS, ROWS, folder, "model_export")
    mlflow.register_model(info.model_uri, experiment.id_name)
    return f"models:/{experiment.id_name}/1"


@contextmanager
def serve_model(model: str, folder: Path, **env: str) -> Iterator[str]:
    """Serve a model with `mlflow models serve`, from a folder outside the repository; yield the URL."""
    port = find_free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)], cwd=folder, env=make_command_env(**env), stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(lambda: process.poll() is not None or is_healthy(port), "the model is served")
        assert process.poll() is None, (folder / "server.log").read_text()
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def is_healthy(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=2).ok
    except requests.RequestException:
        return False


def test_what_a_stock_server_answers_is_on_record_or_refused(
    model: str, experiment: Experiment, tmp_path: Path
) -> None:
    file = tmp_path / "log.db"
    env = {"PREDICTION_LOG_URL": "sqlite:///log.db?timeout=0.2", "PREDICTION_LOG_SETTINGS": '{"redact": ["AGE"]}'}
    with serve_model(model, tmp_path, **env) as url:
        response = requests.post(url, json=REQUEST, timeout=30)
        assert response.status_code == 200, response.text
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            refusal = requests.post(url, json=REQUEST, timeout=30)
        assert refusal.status_code == 503
        assert "locked" in refusal.json()["message"]
        assert requests.post(url, json=REQUEST, timeout=30).status_code == 200
    log_rows = read_log(f"sqlite:///{file}")
    assert log_rows["request_id"].nunique() == 2
    assert log_rows["row"].tolist() == [0, 1, 0, 1]
    first_request = log_rows.head(2)
    assert (
        first_request[["probability", "predicted"]].rename(columns={"predicted": "class"}).to_dict("records")
        == (response.json()["predictions"])
    )
    assert first_request["job"].tolist() == ["cook", None]
    assert first_request["LIMIT_BAL"].fillna(-1).tolist() == [-1, 5.5]
    assert first_request["AGE"].isna().all()
    assert first_request["model_version"].tolist() == ["1", "1"]
    with closing(sqlite3.connect(file)) as connection:
        names = connection.execute("SELECT DISTINCT model_name FROM predictions").fetchall()
    assert names == [(experiment.id_name,)]


def test_only_what_mlflow_serves_or_predicts_is_recorded(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    monkeypatch.setenv("PREDICTION_LOG_URL", url)
    rows = to_model_input(ROWS, COLUMNS)[["job", "AGE", "LIMIT_BAL"]]
    path = list(sys.path)
    assert len(mlflow.pyfunc.load_model(model).predict(rows)) == 10
    assert sys.path == path
    assert not (tmp_path / "log.db").exists()
    (tmp_path / "rows.json").write_text(json.dumps(REQUEST))
    result = run_command(
        "mlflow", "models", "predict", "-m", model, "--env-manager", "local", "-t", "json", "-i", "rows.json",
        cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert read_log(url)["row"].tolist() == [0, 1]

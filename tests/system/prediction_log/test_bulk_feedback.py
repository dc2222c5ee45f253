"""True labels from a CSV reach the prediction log by `mlflow run ./serve -e feedback`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from prediction_log.labels import main
from prediction_log.read import read_log
from prediction_log.writer import PredictionLog
from stepkit.paths import ROOT
from tests.conftest import run_command
from tests.support.log_writer_process import prediction

COMMAND = ("mlflow", "run", "./serve", "-e", "feedback", "--env-manager", "local")
ITSELF = ("python", "-P", "-m", "prediction_log.labels")
"""The command of that entry point, without MLflow around it."""


def give(labels: Path, url: str) -> subprocess.CompletedProcess[str]:
    """Give the labels as a person does; the log's address comes from the environment, where a password may stand."""
    return run_command(*COMMAND, "-P", f"input={labels}", PREDICTION_LOG_URL=url)


def test_mlflow_run_takes_labels_once_and_names_what_is_unknown(store: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    log = PredictionLog.open(url)
    log.submit([prediction("first", row) for row in range(2)]).result(20)
    log.close()
    labels = tmp_path / "labels.csv"
    labels.write_text("request_id,row,label\nfirst,0,1\nfirst,1,0\n")
    ended = give(labels, url)
    assert ended.returncode == 0, ended.stderr
    assert "2 lines taken (2 new, 0 repeated, 0 changed)" in ended.stdout
    assert read_log(url, labels=True)["label"].tolist() == [1, 0]

    labels.write_text("request_id,row,label\nfirst,0,1\nfirst,1,1\nnobody,0,1\n")
    ended = run_command(*ITSELF, "--input", str(labels), cwd=ROOT / "serve", PYTHONPATH="..", PREDICTION_LOG_URL=url)
    assert ended.returncode != 0
    assert "(0 new, 1 repeated, 1 changed), 1 not: request 'nobody', row 0, is not in the log" in ended.stderr
    assert read_log(url, labels=True)["label"].tolist() == [1, 1]


def test_a_mistyped_flag_is_answered_with_the_one_that_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--input", "labels.csv", "--log_ulr", "sqlite:///log.db"])
    assert "did you mean --log_url?" in capsys.readouterr().err

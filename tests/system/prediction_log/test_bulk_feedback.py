"""True labels from a CSV reach the prediction log by `mlflow run ./serve -e feedback`."""

from __future__ import annotations

from pathlib import Path

import pytest

from prediction_log.labels import main
from prediction_log.read import read_log
from tests.conftest import run_command
from tests.support.log_writer_process import make_prediction
from tests.support.prediction_logs import open_log


def test_labels_are_taken_from_a_file_and_what_is_not_taken_is_named(
    store: str, log_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log_at, labels = f"sqlite:///{log_file}", log_file.with_name("labels.csv")
    with open_log(log_at) as log:
        log.submit([make_prediction("a", row) for row in range(2)]).result(20)
    labels.write_text("request_id,row,label\na,0,1\na,1,maybe\nb,0,1\n")
    with pytest.raises(SystemExit, match="1"):
        main(["--log_url", log_at, "--input", str(labels)])
    assert capsys.readouterr().err == (
        f"FeedbackUnfit: {labels}: 1 line taken (1 new, 0 repeated, 0 changed), 2 not: "
        "line 3: label 'maybe' is not 0 or 1; request 'b', row 0, is not in the log. "
        "Mend these and give the file again: taken lines do no harm.\n"
    )
    labels.write_text("request_id,row,label\na,0,0\na,1,0\n")
    # the address comes from the environment, where a password may stand
    command = ("mlflow", "run", "./serve", "-e", "feedback", "--env-manager", "local", "-P", f"input={labels}")
    ended = run_command(*command, PREDICTION_LOG_URL=log_at)
    assert ended.returncode == 0, ended.stderr
    assert f"{labels}: 2 lines taken (1 new, 0 repeated, 1 changed)\n" in ended.stdout
    assert read_log(log_at, labels=True)["label"].tolist() == [0, 0]


def test_a_mistyped_flag_is_answered_with_the_one_that_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--input", "labels.csv", "--log_ulr", "sqlite:///log.db"])
    assert "did you mean --log_url?" in capsys.readouterr().err

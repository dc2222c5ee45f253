"""`mlflow run ./serve -e feedback` imports true labels from a CSV."""

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
    log_url, labels_csv = f"sqlite:///{log_file}", log_file.with_name("labels.csv")
    with open_log(log_url) as log:
        log.submit([make_prediction("a", row) for row in range(2)]).result(20)
    labels_csv.write_text("request_id,row,label\na,0,1\na,1,maybe\nb,0,1\n")
    with pytest.raises(SystemExit, match="1"):
        main(["--log_url", log_url, "--input", str(labels_csv)])
    assert capsys.readouterr().err == (
        f"FeedbackUnfit: {labels_csv}: 1 label imported (1 new, 0 repeated, 0 changed), 2 rejected: "
        "line 3: wrong label (found 'maybe', expected 0 or 1); request 'b', row 0, has no prediction in the log. "
        "Correct these and import the file again.\n"
    )
    labels_csv.write_text("request_id,row,label\na,0,0\na,1,0\n")
    # The URL comes from the environment, since it may hold a password.
    command = ("mlflow", "run", "./serve", "-e", "feedback", "--env-manager", "local", "-P", f"input={labels_csv}")
    result = run_command(*command, PREDICTION_LOG_URL=log_url)
    assert result.returncode == 0, result.stderr
    assert f"{labels_csv}: 2 labels imported (1 new, 0 repeated, 1 changed)\n" in result.stdout
    assert read_log(log_url, labels=True)["label"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "labels.csv: No such file or directory; 0 labels imported."),
        ("id,label\n", "labels.csv: no column request_id (found id, label; expected request_id, label"),
    ],
    ids=["missing file", "missing column"],
)
def test_a_file_that_cannot_be_imported_is_named(
    content: str | None, message: str, log_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels_csv = log_file.with_name("labels.csv")
    if content:
        labels_csv.write_text(content)
    with open_log(f"sqlite:///{log_file}"), pytest.raises(SystemExit, match="1"):
        main(["--log_url", f"sqlite:///{log_file}", "--input", str(labels_csv)])
    assert message in capsys.readouterr().err


def test_a_mistyped_flag_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--input", "labels.csv", "--log_ulr", "sqlite:///log.db"])
    assert "did you mean --log_url?" in capsys.readouterr().err

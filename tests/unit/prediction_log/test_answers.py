"""Answers on record: which one is read, and what counts as the same row of a repeated request."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from prediction_log.answers import LARGEST_ROW, Answer, read_answer
from prediction_log.engine import open_existing
from prediction_log.rows import REDACTED
from prediction_log.settings import LogSettings
from prediction_log.writer import Prediction, PredictionLog

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
PREDICTION = Prediction("r", 0, NOON, "credit", "9", False, {"AGE": 24.0, "job": None}, 0.25, 0, 1.5)


def write(folder: Path, *predictions: Prediction, redact: tuple[str, ...] = ()) -> str:
    url = f"sqlite:///{folder / 'log.db'}"
    log = PredictionLog.open(url, LogSettings(redact=[*redact]))
    try:
        for prediction in predictions:
            log.submit([prediction]).result(20)
    finally:
        log.close()
    return url


def read(url: str, request_id: str = "r", row: int = 0) -> Answer | None:
    with open_existing(url, reads=True) as engine:
        return read_answer(engine, request_id, row)


@pytest.mark.parametrize("later", ["10", "91"])
def test_of_two_answers_to_a_repeated_request_the_later_one_is_read(tmp_path: Path, later: str) -> None:
    repeated = PREDICTION._replace(model_version=later, time=NOON + timedelta(seconds=5), probability=0.3)
    shadow = PREDICTION._replace(model_version="99", time=NOON + timedelta(seconds=9), shadow=True)
    answer = read(write(tmp_path, PREDICTION, repeated, shadow))
    assert answer is not None
    assert (answer.model_version, answer.probability, answer.time) == (later, 0.3, repeated.time)


@pytest.mark.parametrize(
    ("request_id", "row"),
    [("r", 1), ("R", 0), ("r", LARGEST_ROW), ("r", LARGEST_ROW + 1), ("r", 2**70), ("r\0", 0), ("\ud800", 0), ("", 0)],
    ids=["row", "id", "largest row", "larger row", "huge row", "NUL", "lone surrogate", "no id"],
)
def test_an_answer_that_is_not_on_record_is_none(tmp_path: Path, request_id: str, row: int) -> None:
    assert read(write(tmp_path, PREDICTION), request_id, row) is None


def test_a_redacted_value_is_named_unlike_a_missing_one(tmp_path: Path) -> None:
    answer = read(write(tmp_path, PREDICTION, redact=("AGE",)))
    assert answer is not None
    assert answer.features == {"AGE": None, "job": None}
    assert answer.redacted == {"AGE"}


def test_a_request_is_repeated_on_a_row_that_an_earlier_release_redacted(tmp_path: Path) -> None:
    url = write(tmp_path, PREDICTION, redact=("AGE",))
    with closing(sqlite3.connect(tmp_path / "log.db")) as database, database:
        database.execute(f"""UPDATE predictions SET features = json_remove(features, '$."{REDACTED}"')""")
    answer = read(url)
    assert answer is not None
    assert answer.redacted == frozenset()
    write(tmp_path, PREDICTION, redact=("AGE",))

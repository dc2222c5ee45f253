"""The prediction log on SQLite and PostgreSQL holds each acknowledged prediction exactly once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from prediction_log.engine import open_engine
from prediction_log.insert import IdConflict, commit
from prediction_log.labels import write_labels
from prediction_log.read import read_log
from prediction_log.rows import Prediction, to_log_rows
from prediction_log.schema import HEAD, VERSION_TABLE
from prediction_log.writer import LogUnavailable, PredictionLog, RequestIdTaken
from stepkit.paths import ROOT
from tests.support.log_writer_process import make_prediction
from tests.support.prediction_logs import count_ids, create_database, open_log, query_database, write_predictions

WRITER = ROOT / "tests" / "support" / "log_writer_process.py"
KILLS, ACKNOWLEDGED_BEFORE_A_KILL = 5, 60


@contextmanager
def start_writers(log_at: str) -> Iterator[subprocess.Popen[str]]:
    """Start the process that starts writers, see log_writer_process.py; verify at the end that it printed no error."""
    process = subprocess.Popen(
        [sys.executable, str(WRITER), log_at],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    yield process
    assert process.communicate(timeout=60) == ("", "")


def run_writers(process: subprocess.Popen[str], line: str) -> Iterator[tuple[int, str]]:
    """Let processes write; yield the process id and request id of each acknowledgement, until all have ended."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(line + "\n")
    process.stdin.flush()
    for output_line in process.stdout:
        if output_line == "ended\n":
            return
        pid, request_id = output_line.split()
        yield int(pid), request_id


def test_a_future_resolves_after_its_rows_are_visible_to_other_connections(log_at: str) -> None:
    visible_rows: list[int] = []

    def count_rows(_: Future[None]) -> None:
        visible_rows.append(query_database(log_at, "SELECT count(*) FROM predictions WHERE request_id = 'b'")[0][0])

    with open_log(log_at) as log:
        future = log.submit([make_prediction("b", row) for row in range(3)])
        future.add_done_callback(count_rows)
        assert future.result(20) is None
    assert visible_rows == [3]


def test_submitted_predictions_are_read_back_in_one_call(log_at: str) -> None:
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    submitted = [
        make_prediction(f"r{i}")._replace(
                time=begin + timedelta(minutes=i), model_version=str(i % 2), probability=i / 10,
                predicted=int(i >= 5), features={"AGE": float(i) or None, "job": "cook" if i else None, "TOP": 1e300})
        for i in range(10)
    ]  # fmt: skip
    with open_log(log_at) as log:
        log.submit([*submitted, submitted[3]._replace(shadow=True, probability=0.9)]).result(20)
    write_labels(log_at, [("r3", 0, 1)])
    expected = pd.DataFrame(
        {
            "request_id": [prediction.request_id for prediction in submitted],
            "row": 0,
            "time": pd.Series([prediction.time for prediction in submitted]).astype("datetime64[us, UTC]"),
            "model_version": [prediction.model_version for prediction in submitted],
            "AGE": [None, *map(float, range(1, 10))],
            "job": [None, *["cook"] * 9],
            "TOP": 1e300,
            "probability": [prediction.probability for prediction in submitted],
            "predicted": [prediction.predicted for prediction in submitted],
            "latency_ms": 1.5,
            "label": [1.0 if i == 3 else None for i in range(10)],
        }
    )
    log_rows = read_log(log_at, labels=True)
    # PostgreSQL changes the order of the keys of an object.
    pd.testing.assert_frame_equal(log_rows[list(expected)], expected)
    assert set(log_rows) == set(expected)
    window = read_log(log_at, start=begin + timedelta(minutes=2), end=begin + timedelta(minutes=8), model_version="0")
    assert window["request_id"].tolist() == ["r2", "r4", "r6"]
    assert read_log(log_at, last=3)["request_id"].tolist() == ["r7", "r8", "r9"]
    assert read_log(log_at, shadow=True)["probability"].tolist() == [0.9]
    assert len(read_log(log_at, shadow=None)) == 11
    assert read_log(log_at, start=begin + timedelta(days=1), labels=True).empty


def test_many_rows_are_read_in_parts_and_in_their_order(log_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prediction_log.read.ROWS_PER_PART", 7)
    log_at, begin = f"sqlite:///{log_file}", datetime(2026, 3, 1, tzinfo=UTC)
    with open_log(log_at) as log:
        rows = [make_prediction("r", row)._replace(time=begin + timedelta(seconds=row)) for row in range(50)]
        # The column has numbers in one part and texts in another.
        log.submit([row._replace(features={"a": "x" if row.row > 40 else 1.0}) for row in rows]).result(20)
    assert read_log(log_at)["row"].tolist() == list(range(50))
    assert read_log(log_at, last=20)["row"].tolist() == list(range(30, 50))
    assert set(read_log(log_at)["a"]) == {"1", "x"}


def test_every_acknowledged_prediction_of_killed_processes_is_on_record_once(log_at: str) -> None:
    acknowledged: list[str] = []
    with start_writers(log_at) as process:
        for kill in range(KILLS):
            acknowledged_by_pid: Counter[int] = Counter()
            for pid, request_id in run_writers(process, f"1000000 {kill}-a {kill}-b"):
                acknowledged.append(request_id)
                acknowledged_by_pid[pid] += 1
                if acknowledged_by_pid[pid] == ACKNOWLEDGED_BEFORE_A_KILL:
                    os.kill(pid, signal.SIGKILL)
    counts = count_ids(log_at)
    assert len(acknowledged) >= KILLS * 2 * ACKNOWLEDGED_BEFORE_A_KILL
    assert {request_id: counts[request_id] for request_id in acknowledged if counts[request_id] != 2} == {}  # two rows


def test_processes_that_open_a_new_log_at_once_make_it_once(log_at: str) -> None:
    with start_writers(log_at) as process:
        assert len([*run_writers(process, "3 a b c d")]) == 12
    assert len(count_ids(log_at)) == 12
    assert query_database(log_at, f"SELECT version_num FROM {VERSION_TABLE}") == [(HEAD,)]


def test_the_same_request_again_is_acknowledged_and_not_doubled(log_at: str) -> None:
    huge = make_prediction("huge")._replace(features={"AGE": 1e300})
    with open_log(log_at) as log:
        write_predictions(log, "a", "a", "b")
        for _ in range(2):
            write_predictions(log, "a")
            log.submit([huge]).result(20)
        assert log.get_stats().failed == 0
    assert count_ids(log_at) == {"a": 1, "b": 1, "huge": 1}


def test_another_request_with_a_taken_id_is_refused_and_its_neighbours_are_not(log_at: str) -> None:
    with open_log(log_at) as log:
        write_predictions(log, "a")
        other_rows = [make_prediction("a", row)._replace(features={"AGE": 99.0}) for row in range(2)]
        futures = [log.submit([make_prediction("b")]), log.submit(other_rows), log.submit([make_prediction("c")])]
        with pytest.raises(RequestIdTaken, match="request id 'a': already in the prediction log with other rows"):
            futures[1].result(20)
        assert [futures[0].result(20), futures[2].result(20)] == [None, None]
        # The same id with another version, or from the shadow, is the same request.
        log.submit(
            [make_prediction("a")._replace(model_version="4"), make_prediction("a")._replace(shadow=True)]
        ).result(20)
    assert count_ids(log_at) == {"a": 3, "b": 1, "c": 1}


def test_other_rows_are_refused_under_the_id_of_a_request_that_another_version_answered(log_at: str) -> None:
    def score_with_version_4(request_id: str, age: float, **features: float) -> Prediction:
        return make_prediction(request_id)._replace(model_version="4", features={"AGE": age, **features})

    with open_log(log_at) as log:
        write_predictions(log, "a", "b")
        futures = [
            log.submit([score_with_version_4("a", 25.0)]),
            log.submit([score_with_version_4("b", 24.0, more=1.0)]),
        ]
        with pytest.raises(RequestIdTaken, match="request id 'a'"):
            futures[0].result(20)
        futures[1].result(20)
    assert count_ids(log_at) == {"a": 1, "b": 2}
    # Both at the same time, while the champion changes.
    groups = [
        to_log_rows([prediction], frozenset())
        for prediction in (make_prediction("c"), score_with_version_4("c", 25.0), make_prediction("d"))
    ]
    engine = open_engine(log_at)
    with pytest.raises(IdConflict) as conflict:
        commit(engine, groups)
    assert conflict.value.positions == {0, 1}
    engine.dispose()
    assert count_ids(log_at) == {"a": 1, "b": 2}


def test_more_or_fewer_rows_under_an_id_on_record_are_refused(log_at: str) -> None:
    def make_request(request_id: str, rows: int) -> list[Prediction]:
        return [make_prediction(request_id, row) for row in range(rows)]

    with open_log(log_at) as log:
        log.submit(make_request("a", 2)).result(20)
        for rows in (1, 3):
            with pytest.raises(RequestIdTaken, match="request id 'a'"):
                log.submit(make_request("a", rows)).result(20)
            with pytest.raises(RequestIdTaken, match="request id 'a'"):
                log.submit([row._replace(model_version="4") for row in make_request("a", rows)]).result(20)
        log.submit(make_request("a", 2)).result(20)
        # The shadow may skip rows.
        log.submit([row._replace(shadow=True) for row in make_request("a", 1)]).result(20)
    assert count_ids(log_at) == {"a": 3}


def test_a_row_that_the_database_rejects_neither_fails_others_nor_appears_in_the_error(log_server: str) -> None:
    log_at = create_database(log_server)
    with open_log(log_at) as log:
        with log.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE predictions ADD CHECK (probability > 0.1)")
        wrong = make_prediction("b")._replace(model_name="\0"), make_prediction("c")._replace(probability=0.05)
        futures = [log.submit([prediction]) for prediction in (make_prediction("a"), *wrong)]
        assert futures[0].result(20) is None
        with pytest.raises(ValueError, match="prediction cannot be stored"):
            futures[1].result(20)
        with pytest.raises(ValueError, match="violates check constraint") as error:
            futures[2].result(20)
        assert "cook" not in str(error.value)
        assert (log.get_stats().committed, log.get_stats().failed) == (1, 2)
    assert set(count_ids(log_at)) == {"a"}


def test_closing_writes_the_queue_and_then_accepts_no_more(log_at: str) -> None:
    log = PredictionLog.open(log_at)
    futures = [log.submit([make_prediction(f"r{i}")]) for i in range(300)]
    log.close(20)
    assert [future.done() for future in futures] == [True] * 300
    assert len(count_ids(log_at)) == 300
    with pytest.raises(LogUnavailable, match=r"prediction log .*: closed"):
        log.submit([make_prediction("late")]).result(1)

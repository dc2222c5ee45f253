"""What the prediction log keeps: true labels, what is redacted, sampled, and removed when it is too old."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import delete

from prediction_log.errors import FeedbackUnfit, RequestIdTaken
from prediction_log.labels import LabelCounts, write_labels
from prediction_log.read import read_log
from prediction_log.retention import ROWS_PER_PURGE, purge_batches
from prediction_log.schema import predictions
from prediction_log.writer import Prediction
from tests.support.log_writer_process import make_prediction
from tests.support.prediction_logs import count_ids, open_log, query_database, write_predictions
from tests.support.servers import wait_until


def test_labels_are_taken_once_and_the_newer_one_counts(log_at: str) -> None:
    with open_log(log_at) as log:
        log.submit([make_prediction("a", row) for row in range(3)]).result(20)
        labels = [("a", 0, 1), ("a", 1, 0)]
        assert write_labels(log.engine, labels) == LabelCounts(new=2)
        assert write_labels(log.engine, labels) == LabelCounts(repeated=2)
        assert write_labels(log.engine, [("a", 0, 0), ("a", 2, 1), ("a", 2, 1)]) == LabelCounts(
            new=1, repeated=1, changed=1
        )
        unknown = [("a", 3, 1), ("b", 0, 1), ("c\0", 0, 1)]
        assert write_labels(log.engine, unknown) == LabelCounts(unknown=[key[:2] for key in unknown])
        with pytest.raises(FeedbackUnfit, match="the label of request 'a', row 0, is 2"):
            write_labels(log.engine, [("a", 0, 2)])
    assert read_log(log_at, labels=True)["label"].tolist() == [0.0, 0.0, 1.0]


def test_what_is_redacted_is_nowhere_in_the_log(log_at: str) -> None:
    with open_log(log_at, redact=["job"]) as log:
        write_predictions(log, "a")
    assert query_database(log_at, "SELECT count(*) FROM predictions WHERE CAST(features AS TEXT) LIKE '%cook%'") == [
        (0,)
    ]
    found = read_log(log_at)
    assert (found["AGE"].tolist(), found["job"].isna().tolist()) == ([24.0], [True])


def test_rows_that_differ_only_in_what_is_redacted_are_told_apart_by_their_probability(log_at: str) -> None:
    cook = make_prediction("a")
    baker = cook._replace(features={**cast(dict[str, Any], cook.features), "job": "baker"}, probability=0.251)
    with open_log(log_at, redact=["job"]) as log:
        write_predictions(log, "a")
        with pytest.raises(RequestIdTaken, match="request id 'a'"):
            log.submit([baker]).result(20)
        write_predictions(log, "a")
        # another version may answer the same row otherwise
        log.submit([cook._replace(model_version="4", probability=0.3)]).result(20)
        # its float32 votes may be added in another order
        log.submit([cook._replace(probability=0.25 + 3e-7)]).result(20)
    assert read_log(log_at, model_version="3")["probability"].tolist() == [0.25]


def test_what_the_sampling_rate_leaves_out_is_counted(log_file: Path) -> None:
    with open_log(f"sqlite:///{log_file}", sample_rate=0.3) as log:
        write_predictions(log, *(f"r{i}" for i in range(1000)))
        stats = log.get_stats()
    assert stats.committed + stats.not_kept == 1000
    assert 250 < stats.committed < 350
    assert len(count_ids(f"sqlite:///{log_file}")) == stats.committed


def aged(name: str, days: float, row: int = 0) -> Prediction:
    return make_prediction(name, row)._replace(time=datetime.now(UTC) - timedelta(days=days))


def test_old_predictions_and_their_labels_are_removed(log_at: str) -> None:
    with open_log(log_at) as log:
        log.submit([aged("old", 31, row) for row in range(ROWS_PER_PURGE + 10)]).result(20)
        log.submit([aged("young", 29)]).result(20)
        write_labels(log.engine, [("old", 5, 1), ("young", 0, 1)])
        later = datetime.now(UTC) + timedelta(seconds=1)
        assert sum(purge_batches(log.engine, 30, later)) == ROWS_PER_PURGE + 10
        assert sum(purge_batches(log.engine, 30, later)) == 0
        assert query_database(log_at, "SELECT request_id FROM feedback") == [("young",)]
        assert write_labels(log.engine, [("old", 5, 1)]) == LabelCounts(unknown=[("old", 5)])
        write_predictions(log, "old")
        assert write_labels(log.engine, [("old", 0, 1)]) == LabelCounts(new=1)
    assert count_ids(log_at) == {"young": 1, "old": 1}


def test_a_label_stays_with_a_young_answer_to_the_same_row(log_at: str) -> None:
    with open_log(log_at) as log:
        log.submit([aged("a", 31)]).result(20)
        log.submit([aged("a", 1)._replace(model_version="4")]).result(20)
        write_labels(log.engine, [("a", 0, 1)])
        assert sum(purge_batches(log.engine, 30)) == 1
    assert query_database(log_at, "SELECT request_id FROM feedback") == [("a",)]


def test_a_label_that_older_code_left_behind_is_removed_when_it_is_old(log_at: str) -> None:
    with open_log(log_at) as log:
        write_predictions(log, "a")
        write_labels(log.engine, [("a", 0, 1)])
        with log.engine.begin() as connection:
            connection.execute(delete(predictions))
        assert sum(purge_batches(log.engine, 1, datetime.now(UTC) + timedelta(days=2))) == 0
    assert query_database(log_at, "SELECT count(*) FROM feedback") == [(0,)]


def test_the_writer_removes_what_is_too_old_by_itself(log_file: Path) -> None:
    log_at = f"sqlite:///{log_file}"
    with open_log(log_at) as log:
        log.submit([aged("old", 8, row) for row in range(2 * ROWS_PER_PURGE)]).result(20)
        log.submit([aged("young", 1)]).result(20)
    with open_log(log_at, keep_days=7) as log:
        wait_until(lambda: log.get_stats().purged == 2 * ROWS_PER_PURGE, "old predictions are removed", 10)
    assert count_ids(log_at) == {"young": 1}

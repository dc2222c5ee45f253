"""True labels, redaction, sampling and deletion of old predictions in the prediction log."""

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


def test_labels_are_stored_once_and_a_new_one_replaces_an_old_one(log_at: str) -> None:
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
        with pytest.raises(FeedbackUnfit, match=r"request 'a', row 0: wrong label \(found 2, expected 0 or 1"):
            write_labels(log.engine, [("a", 0, 2)])
    assert read_log(log_at, labels=True)["label"].tolist() == [0.0, 0.0, 1.0]


def test_redacted_values_are_not_in_the_log(log_at: str) -> None:
    with open_log(log_at, redact=["job"]) as log:
        write_predictions(log, "a")
    assert query_database(log_at, "SELECT count(*) FROM predictions WHERE CAST(features AS TEXT) LIKE '%cook%'") == [
        (0,)
    ]
    log_rows = read_log(log_at)
    assert (log_rows["AGE"].tolist(), log_rows["job"].isna().tolist()) == ([24.0], [True])


def test_rows_that_differ_only_in_what_is_redacted_are_told_apart_by_their_probability(log_at: str) -> None:
    cook = make_prediction("a")
    baker = cook._replace(features={**cast(dict[str, Any], cook.features), "job": "baker"}, probability=0.251)
    with open_log(log_at, redact=["job"]) as log:
        write_predictions(log, "a")
        with pytest.raises(RequestIdTaken, match="request id 'a'"):
            log.submit([baker]).result(20)
        write_predictions(log, "a")
        # Another version may give the same row another probability.
        log.submit([cook._replace(model_version="4", probability=0.3)]).result(20)
        # The same version may add its float32 votes in another order.
        log.submit([cook._replace(probability=0.25 + 3e-7)]).result(20)
    assert read_log(log_at, model_version="3")["probability"].tolist() == [0.25]


def test_predictions_left_out_by_the_sampling_rate_are_counted(log_file: Path) -> None:
    with open_log(f"sqlite:///{log_file}", sample_rate=0.3) as log:
        write_predictions(log, *(f"r{i}" for i in range(1000)))
        stats = log.get_stats()
    assert stats.committed + stats.not_kept == 1000
    assert 250 < stats.committed < 350
    assert len(count_ids(f"sqlite:///{log_file}")) == stats.committed


def make_old_prediction(request_id: str, days: float, row: int = 0) -> Prediction:
    return make_prediction(request_id, row)._replace(time=datetime.now(UTC) - timedelta(days=days))


def test_old_predictions_and_their_labels_are_deleted(log_at: str) -> None:
    with open_log(log_at) as log:
        log.submit([make_old_prediction("old", 31, row) for row in range(ROWS_PER_PURGE + 10)]).result(20)
        log.submit([make_old_prediction("young", 29)]).result(20)
        write_labels(log.engine, [("old", 5, 1), ("young", 0, 1)])
        later = datetime.now(UTC) + timedelta(seconds=1)
        assert sum(purge_batches(log.engine, 30, later)) == ROWS_PER_PURGE + 10
        assert sum(purge_batches(log.engine, 30, later)) == 0
        assert query_database(log_at, "SELECT request_id FROM feedback") == [("young",)]
        assert write_labels(log.engine, [("old", 5, 1)]) == LabelCounts(unknown=[("old", 5)])
        write_predictions(log, "old")
        assert write_labels(log.engine, [("old", 0, 1)]) == LabelCounts(new=1)
    assert count_ids(log_at) == {"young": 1, "old": 1}


def test_a_label_stays_with_a_recent_prediction_for_the_same_row(log_at: str) -> None:
    with open_log(log_at) as log:
        log.submit([make_old_prediction("a", 31)]).result(20)
        log.submit([make_old_prediction("a", 1)._replace(model_version="4")]).result(20)
        write_labels(log.engine, [("a", 0, 1)])
        assert sum(purge_batches(log.engine, 30)) == 1
    assert query_database(log_at, "SELECT request_id FROM feedback") == [("a",)]


def test_an_old_label_without_a_prediction_is_deleted(log_at: str) -> None:
    with open_log(log_at) as log:
        write_predictions(log, "a")
        write_labels(log.engine, [("a", 0, 1)])
        with log.engine.begin() as connection:
            connection.execute(delete(predictions))
        assert sum(purge_batches(log.engine, 1, datetime.now(UTC) + timedelta(days=2))) == 0
    assert query_database(log_at, "SELECT count(*) FROM feedback") == [(0,)]


def test_the_writer_deletes_old_predictions_by_itself(log_file: Path) -> None:
    log_at = f"sqlite:///{log_file}"
    with open_log(log_at) as log:
        log.submit([make_old_prediction("old", 8, row) for row in range(2 * ROWS_PER_PURGE)]).result(20)
        log.submit([make_old_prediction("young", 1)]).result(20)
    with open_log(log_at, keep_days=7) as log:
        wait_until(lambda: log.get_stats().purged == 2 * ROWS_PER_PURGE, "old predictions are deleted", 10)
    assert count_ids(log_at) == {"young": 1}

"""Logs with an older schema are upgraded, and logs with a newer one rejected."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, text

from prediction_log.engine import open_engine
from prediction_log.labels import LabelCounts, write_labels
from prediction_log.read import read_log
from prediction_log.schema import HEAD, VERSION_TABLE, metadata, prepare_tables, upgrade
from prediction_log.writer import LogUnfit, PredictionLog
from tests.support.prediction_logs import create_database, open_log, query_database, write_predictions


def test_the_tables_are_those_that_the_migrations_make(log_at: str) -> None:
    engine = open_engine(log_at)
    prepare_tables(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def create_old_log(log_at: str) -> Engine:
    """Create a log with schema 1 and one prediction."""
    engine = open_engine(log_at)
    values = "'old', 0, '2026-01-01 00:00:00.000000', 'm', '1', false, '{}', 0.5, 1, 2"
    with engine.begin() as connection:
        upgrade(connection, "1")
        connection.execute(text(f"INSERT INTO predictions VALUES ({values})"))
    return engine


def test_an_older_log_is_brought_up_to_date_and_keeps_its_rows(log_at: str) -> None:
    create_old_log(log_at).dispose()
    with pytest.raises(LogUnfit, match=rf"old schema \(found 1, expected {HEAD}\)\. Start the scorer"):
        read_log(log_at)
    with open_log(log_at) as log:
        write_predictions(log, "new")
    assert set(read_log(log_at)["request_id"]) == {"old", "new"}
    assert write_labels(log_at, [("old", 0, 1)]) == LabelCounts(new=1)


def test_a_newer_log_is_refused_and_left_alone(log_at: str) -> None:
    engine = create_old_log(log_at)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '99'"))
    engine.dispose()
    for use in (PredictionLog.open, read_log, lambda log_at: write_labels(log_at, [])):
        with pytest.raises(LogUnfit, match=rf"schema too new \(found 99, expected at most {HEAD}"):
            use(log_at)
    assert query_database(log_at, f"SELECT version_num FROM {VERSION_TABLE}") == [("99",)]


def test_looking_for_a_log_makes_none(log_file: Path, log_server: str) -> None:
    for use in (read_log, lambda log_at: write_labels(log_at, [])):
        with pytest.raises(LogUnfit, match="no prediction log at"):
            use(f"sqlite:///{log_file}")
    assert not log_file.exists()
    with pytest.raises(LogUnfit, match="no prediction log at"):
        read_log(create_database(log_server))

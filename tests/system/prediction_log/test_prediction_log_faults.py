"""The prediction log loses no acknowledged prediction if its database stops, locks, fills up or is moved."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event, make_url

from prediction_log.queue import MAX_QUEUED_ROWS
from prediction_log.writer import LogUnavailable, PredictionLog
from stepkit.processes import find_free_port
from tests.support.log_writer_process import make_prediction
from tests.support.prediction_logs import count_ids, create_database, open_log, write_predictions
from tests.support.restartable_postgres import start_postgres_to_stop, stop_for_a_while
from tests.support.tcp_proxy import CutLine


@pytest.fixture
def uri() -> Iterator[str]:
    with start_postgres_to_stop() as uri:
        yield uri


def test_a_postgresql_that_stops_and_starts_under_load_loses_nothing_acknowledged(uri: str) -> None:
    acknowledged: list[str] = []

    def submit(log: PredictionLog, phase: str, requests: int) -> list[BaseException]:
        """Submit requests one after the other; return the errors of those that are not acknowledged."""
        errors = []
        for name in (f"{phase}-{number}" for number in range(requests)):
            if error := log.submit([make_prediction(name)]).exception(20):
                errors.append(error)
            else:
                acknowledged.append(name)
        return errors

    with open_log(uri) as log:
        assert submit(log, "before", 20) == []
        futures = {name: log.submit([make_prediction(name)]) for name in (f"at-{number}" for number in range(200))}
        with stop_for_a_while(uri, signal.SIGQUIT):
            errors = submit(log, "away", 6)
            assert [type(error) for error in errors] == [LogUnavailable] * 6
            assert all("cannot be used" in str(error) for error in errors)
        acknowledged += [name for name, future in futures.items() if not future.exception(20)]
        assert submit(log, "after", 20) == [], "the log is written again as soon as the server runs"
    counts = count_ids(uri)
    assert {name: counts[name] for name in acknowledged if counts[name] != 1} == {}


def test_a_log_can_be_opened_while_its_server_is_away(tmp_path: Path) -> None:
    unreachable_url = f"postgresql://tester@127.0.0.1:{find_free_port()}/postgres"
    with pytest.raises(LogUnavailable, match=r"cannot be used \(.*refused"):
        PredictionLog.open(unreachable_url)
    log = PredictionLog.open(unreachable_url, must_answer=False)
    with pytest.raises(LogUnavailable):
        log.submit([make_prediction("a")]).result(20)
    log.close(5)


def test_a_commit_whose_answer_is_lost_is_on_record_once(log_server: str) -> None:
    log_at = create_database(log_server)
    with (
        CutLine(make_url(log_at).port or 0) as line,
        open_log(log_at.replace(f":{make_url(log_at).port}/", f":{line.port}/")) as log,
    ):
        write_predictions(log, "a")
        line.armed = True
        write_predictions(log, "b")
        assert line.cuts == 1
        write_predictions(log, "c")
    assert count_ids(log_at) == {"a": 1, "b": 1, "c": 1}


def test_a_full_database_refuses_and_goes_on_when_there_is_room(log_file: Path) -> None:
    room = {"pages": 0}

    with open_log(f"sqlite:///{log_file}") as log:

        def limit(connection: sqlite3.Connection, _: object) -> None:
            connection.execute(f"PRAGMA max_page_count={room['pages'] or 1_000_000}")

        event.listen(log.engine, "connect", limit)
        write_predictions(log, "a")
        room["pages"] = 60
        log.engine.dispose()
        fill_up(log)
        room["pages"] = 0
        log.engine.dispose()
        write_predictions(log, "b")


def test_a_full_disk_refuses_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    try:
        (disk / "ballast").write_bytes(b"\0" * 600_000)
        with open_log(f"sqlite:///{disk / 'log.db'}") as log:
            write_predictions(log, "a")
            acknowledged = fill_up(log)
            (disk / "ballast").unlink()
            write_predictions(log, "b")
        assert set(acknowledged) <= set(count_ids(f"sqlite:///{disk / 'log.db'}"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill_up(log: PredictionLog) -> list[str]:
    """Write until the log is full; return the acknowledged ids."""
    acknowledged: list[str] = []
    for number in range(200):
        future = log.submit([make_prediction(f"n{number}")._replace(features={"text": "x" * 10_000})])
        if error := future.exception(20):
            assert isinstance(error, LogUnavailable)
            assert "full" in str(error)
            return acknowledged
        acknowledged.append(f"n{number}")
    raise AssertionError("the log never became full")


def test_a_locked_database_is_waited_for_and_then_given_up(log_file: Path) -> None:
    with open_log(f"sqlite:///{log_file}?timeout=0.4") as log:
        write_predictions(log, "a")
        with closing(sqlite3.connect(log_file, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            future = log.submit([make_prediction("b")])
            time.sleep(0.1)
            connection.execute("COMMIT")
            assert future.result(20) is None
            connection.execute("BEGIN IMMEDIATE")
            with pytest.raises(LogUnavailable, match="locked"):
                log.submit([make_prediction("c")]).result(20)
            connection.execute("COMMIT")
        write_predictions(log, "d")
    assert set(count_ids(f"sqlite:///{log_file}")) == {"a", "b", "d"}


def test_more_than_can_wait_is_refused_at_once(log_file: Path) -> None:
    with (
        open_log(f"sqlite:///{log_file}?timeout=5") as log,
        closing(sqlite3.connect(log_file, isolation_level=None)) as connection,
    ):
        connection.execute("BEGIN IMMEDIATE")
        first = log.submit([make_prediction("a")])
        many = [make_prediction("b", row) for row in range(MAX_QUEUED_ROWS)]
        rejected = log.submit(many)
        assert rejected.done()
        with pytest.raises(LogUnavailable, match=r"queue full \(1 predictions wait to be written"):
            rejected.result()
        assert log.get_stats().lag_seconds > 0
        connection.execute("COMMIT")
        assert first.result(20) is None
        assert log.get_stats().queued == 0

"""The prediction log on a real SQLite and a real PostgreSQL: what is acknowledged is on record, exactly once."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, event, make_url, text

from serve.record.engine import open_engine
from serve.record.errors import FeedbackUnfit
from serve.record.feedback import Counts, give_feedback
from serve.record.log import MOST_WAITING, LogUnavailable, LogUnfit, Prediction, PredictionLog, RequestIdTaken
from serve.record.read import read_log
from serve.record.schema import HEAD, VERSION_TABLE, metadata, prepare, upgrade
from serve.record.settings import LogSettings
from serve.record.store import PURGED_AT_ONCE, purge
from tests.conftest import run_command
from tests.servers import free_port, postgres, postgres_binary, wait_until
from tests.system.cut_line import CutLine
from tests.system.record_writer import prediction

WRITER = Path(__file__).with_name("record_writer.py")
ROOT = WRITER.parents[2]
KILLS = 5
ACKNOWLEDGED_BEFORE_A_KILL = 60


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as uri:
        yield uri


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a log that is not there yet: a new file, and a new database on a server."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'log.db'}"
    return new_database(request.getfixturevalue("server"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


def new_database(uri: str) -> str:
    name = f"log_{uuid.uuid4().hex}"
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"{uri.rpartition('/')[0]}/{name}"


@contextmanager
def opened(url: str, **settings: Any) -> Iterator[PredictionLog]:
    log = PredictionLog.open(url, LogSettings(**settings))
    try:
        yield log
    finally:
        log.close(5)


def asked(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Ask the database by a connection that has nothing to do with the code under test."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(str(make_url(url).database))) as connection:
            return connection.execute(statement).fetchall()
    with psycopg.connect(url) as connection:
        return connection.execute(statement.encode()).fetchall()


def ids(url: str) -> Counter[str]:
    return Counter(name for (name,) in asked(url, "SELECT request_id FROM predictions"))


def write(log: PredictionLog, *names: str) -> None:
    for future in [log.submit([prediction(name)]) for name in names]:
        future.result(20)


@contextmanager
def writers(url: str) -> Iterator[subprocess.Popen[str]]:
    """A process that starts writing processes; see record_writer.py. None of them may have complained at the end."""
    process = subprocess.Popen(
        [sys.executable, str(WRITER), url],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    yield process
    assert process.communicate(timeout=60) == ("", "")


def tell(process: subprocess.Popen[str], line: str) -> Iterator[tuple[int, str]]:
    """Let processes write, and yield who printed which id until all have ended."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(line + "\n")
    process.stdin.flush()
    for printed in process.stdout:
        if printed == "ended\n":
            return
        pid, name = printed.split()
        yield int(pid), name


def test_a_future_is_resolved_after_its_rows_can_be_seen_by_others(url: str) -> None:
    seen: list[int] = []

    def look(_: Future[None]) -> None:
        seen.append(asked(url, "SELECT count(*) FROM predictions WHERE request_id = 'b'")[0][0])

    with opened(url) as log:
        future = log.submit([prediction("b", row) for row in range(3)])
        future.add_done_callback(look)
        assert future.result(20) is None
    assert seen == [3]


def test_what_is_submitted_is_what_is_read_in_one_call(url: str) -> None:
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    given = [
        replace(prediction(f"r{i}"), time=begin + timedelta(minutes=i), model_version=str(i % 2), probability=i / 10,
                predicted=int(i >= 5), features={"AGE": float(i) or None, "job": "cook" if i else None, "TOP": 1e300})
        for i in range(10)
    ]  # fmt: skip
    with opened(url) as log:
        log.submit([*given, replace(given[3], shadow=True, probability=0.9)]).result(20)
    give_feedback(url, [("r3", 0, 1)])
    expected = pd.DataFrame(
        {
            "request_id": [one.request_id for one in given],
            "row": 0,
            "time": pd.Series([one.time for one in given]).astype("datetime64[us, UTC]"),
            "model_version": [one.model_version for one in given],
            "AGE": [one.features["AGE"] for one in given],
            "job": [one.features["job"] for one in given],
            "TOP": 1e300,
            "probability": [one.probability for one in given],
            "predicted": [one.predicted for one in given],
            "latency_ms": 1.5,
            "label": [1.0 if i == 3 else None for i in range(10)],
        }
    )
    found = read_log(url, labels=True)
    # PostgreSQL keeps the keys of an object in an order of its own
    pd.testing.assert_frame_equal(found[list(expected)], expected)
    assert set(found) == set(expected)
    window = read_log(url, start=begin + timedelta(minutes=2), end=begin + timedelta(minutes=8), model_version="0")
    assert window["request_id"].tolist() == ["r2", "r4", "r6"]
    assert read_log(url, last=3)["request_id"].tolist() == ["r7", "r8", "r9"]
    assert read_log(url, shadow=True)["probability"].tolist() == [0.9]
    assert len(read_log(url, shadow=None)) == 11
    assert read_log(url, start=begin + timedelta(days=1), labels=True).empty


def test_many_rows_are_read_in_parts_and_in_their_order(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.record.read.ROWS_AT_ONCE", 7)
    url, begin = f"sqlite:///{file}", datetime(2026, 3, 1, tzinfo=UTC)
    with opened(url) as log:
        rows = [replace(prediction("r", row), time=begin + timedelta(seconds=row)) for row in range(50)]
        # a column that is of numbers in one part and of texts in another
        log.submit([replace(one, features={"a": "x" if one.row > 40 else 1.0}) for one in rows]).result(20)
    assert read_log(url)["row"].tolist() == list(range(50))
    assert read_log(url, last=20)["row"].tolist() == list(range(30, 50))
    assert set(read_log(url)["a"]) == {"1", "x"}


def test_every_acknowledged_prediction_of_killed_processes_is_on_record_once(url: str) -> None:
    printed: list[str] = []
    with writers(url) as process:
        for kill in range(KILLS):
            heard: Counter[int] = Counter()
            for pid, name in tell(process, f"1000000 {kill}-a {kill}-b"):
                printed.append(name)
                heard[pid] += 1
                if heard[pid] == ACKNOWLEDGED_BEFORE_A_KILL:
                    os.kill(pid, signal.SIGKILL)
    found = ids(url)
    assert len(printed) >= KILLS * 2 * ACKNOWLEDGED_BEFORE_A_KILL
    assert {name: found[name] for name in printed if found[name] != 2} == {}  # each has two rows


def test_processes_that_open_a_new_log_at_once_make_it_once(url: str) -> None:
    with writers(url) as process:
        assert len([*tell(process, "3 a b c d")]) == 12
    assert len(ids(url)) == 12
    assert asked(url, f"SELECT version_num FROM {VERSION_TABLE}") == [(HEAD,)]


def test_the_same_request_again_is_acknowledged_and_not_doubled(url: str) -> None:
    with opened(url) as log:
        write(log, "a", "a", "b")
        write(log, "a")
        assert log.stats().failed == 0
    assert ids(url) == {"a": 1, "b": 1}


def test_another_request_with_a_taken_id_is_refused_and_its_neighbours_are_not(url: str) -> None:
    with opened(url) as log:
        write(log, "a")
        other = [replace(prediction("a", row), features={"AGE": 99.0}) for row in range(2)]
        futures = [log.submit([prediction("b")]), log.submit(other), log.submit([prediction("c")])]
        with pytest.raises(RequestIdTaken, match="request id 'a' stands in the prediction log with other rows"):
            futures[1].result(20)
        assert [futures[0].result(20), futures[2].result(20)] == [None, None]
        # the same id under another version, or as a shadow, is the same request
        log.submit([replace(prediction("a"), model_version="4"), replace(prediction("a"), shadow=True)]).result(20)
    assert ids(url) == {"a": 3, "b": 1, "c": 1}


def test_a_prediction_that_the_database_refuses_harms_no_other(server: str) -> None:
    url = new_database(server)
    with opened(url) as log:
        futures = [log.submit([one]) for one in (prediction("a"), replace(prediction("b"), model_name="\0"))]
        with pytest.raises(ValueError, match="cannot be put on record"):
            futures[1].result(20)
        assert futures[0].result(20) is None
        write(log, "c")
        assert (log.stats().committed, log.stats().failed) == (2, 1)
    assert set(ids(url)) == {"a", "c"}


@contextmanager
def stopped(uri: str, how: signal.Signals) -> Iterator[None]:
    """Stop a PostgreSQL that tests.servers.postgres started, and start it again at the end."""
    with psycopg.connect(uri) as connection:
        (found,) = connection.execute("SHOW data_directory").fetchone() or ("",)
    data = Path(found)
    pid = int((data / "postmaster.pid").read_text().split()[0])
    words, owner = shlex.split((data / "postmaster.opts").read_text()), data.stat().st_uid
    os.kill(pid, how)
    wait_until(lambda: not (data / "postmaster.pid").exists(), "PostgreSQL is down")
    yield
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([postgres_binary("postgres"), *words[1:]], cwd=data.parent, user=owner, **quiet)  # type: ignore[call-overload]  # its overloads know no **
    RESTARTED.append(process)
    wait_until(lambda: answers(uri), "PostgreSQL is up again")


RESTARTED: list[subprocess.Popen[bytes]] = []


def answers(uri: str) -> bool:
    try:
        psycopg.connect(uri, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture
def own_server() -> Iterator[str]:
    with postgres() as uri:
        yield uri
        while RESTARTED:
            process = RESTARTED.pop()
            process.send_signal(signal.SIGINT)
            process.wait(30)


def test_a_postgresql_that_stops_and_starts_under_load_loses_nothing_acknowledged(own_server: str) -> None:
    acknowledged: list[str] = []
    refused: list[BaseException] = []

    def submit(log: PredictionLog, phase: str, until: int) -> None:
        """Hand in until so many more have ended well (or, when the server is away, badly)."""
        for number in range(10_000):
            name = f"{phase}-{number}"
            future = log.submit([prediction(name)])
            if error := future.exception(20):
                refused.append(error)
            else:
                acknowledged.append(name)
            if number >= until:
                return

    with opened(own_server) as log:
        submit(log, "before", 20)
        waiting = {name: log.submit([prediction(name)]) for name in (f"at-{number}" for number in range(200))}
        with stopped(own_server, signal.SIGQUIT):
            submit(log, "away", 5)
            assert len(refused) >= 6
            assert {type(error) for error in refused} == {LogUnavailable}
            assert all("cannot be used" in str(error) for error in refused)
        acknowledged += [name for name, future in waiting.items() if not future.exception(20)]
        before = len(refused)
        submit(log, "after", 20)
        assert len(refused) == before, "the log goes on as soon as the server does"
    found = ids(own_server)
    assert {name: found[name] for name in acknowledged if found[name] != 1} == {}


def test_a_log_can_be_opened_while_its_server_is_away(tmp_path: Path) -> None:
    nobody = f"postgresql://tester@127.0.0.1:{free_port()}/postgres"
    with pytest.raises(LogUnavailable, match=r"cannot be used: .*refused"):
        PredictionLog.open(nobody)
    log = PredictionLog.open(nobody, must_answer=False)
    with pytest.raises(LogUnavailable):
        log.submit([prediction("a")]).result(20)
    log.close(5)


def test_a_commit_whose_answer_is_lost_is_on_record_once(server: str) -> None:
    url = new_database(server)
    with (
        CutLine(make_url(url).port or 0) as line,
        opened(url.replace(f":{make_url(url).port}/", f":{line.port}/")) as log,
    ):
        write(log, "a")
        line.armed = True
        write(log, "b")
        assert line.cuts == 1
        write(log, "c")
    assert ids(url) == {"a": 1, "b": 1, "c": 1}


def test_a_full_database_refuses_and_goes_on_when_there_is_room(file: Path) -> None:
    room = {"pages": 0}

    with opened(f"sqlite:///{file}") as log:

        def limit(connection: sqlite3.Connection, _: object) -> None:
            connection.execute(f"PRAGMA max_page_count={room['pages'] or 1_000_000}")

        event.listen(log.engine, "connect", limit)
        write(log, "a")
        room["pages"] = 60
        log.engine.dispose()
        fills_up(log)
        room["pages"] = 0
        log.engine.dispose()
        write(log, "b")


def test_a_full_disk_refuses_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can make a small disk here")
    try:
        (disk / "ballast").write_bytes(b"\0" * 600_000)
        with opened(f"sqlite:///{disk / 'log.db'}") as log:
            write(log, "a")
            acknowledged = fills_up(log)
            (disk / "ballast").unlink()
            write(log, "b")
        assert set(acknowledged) <= set(ids(f"sqlite:///{disk / 'log.db'}"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fills_up(log: PredictionLog) -> list[str]:
    """Write until the log is full; return what was acknowledged."""
    acknowledged: list[str] = []
    for number in range(200):
        future = log.submit([replace(prediction(f"n{number}"), features={"text": "x" * 10_000})])
        if error := future.exception(20):
            assert isinstance(error, LogUnavailable)
            assert "full" in str(error)
            return acknowledged
        acknowledged.append(f"n{number}")
    raise AssertionError("it never was full")


def test_a_locked_database_is_waited_for_and_then_given_up(file: Path) -> None:
    with opened(f"sqlite:///{file}?timeout=0.4") as log:
        write(log, "a")
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            future = log.submit([prediction("b")])
            time.sleep(0.1)
            other.execute("COMMIT")
            assert future.result(20) is None
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(LogUnavailable, match="locked"):
                log.submit([prediction("c")]).result(20)
            other.execute("COMMIT")
        write(log, "d")
    assert set(ids(f"sqlite:///{file}")) == {"a", "b", "d"}


def test_more_than_can_wait_is_refused_at_once(file: Path) -> None:
    with opened(f"sqlite:///{file}?timeout=5") as log, closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        first = log.submit([prediction("a")])
        many = [prediction("b", row) for row in range(MOST_WAITING)]
        refused = log.submit(many)
        assert refused.done()
        with pytest.raises(LogUnavailable, match="1 predictions wait to be written"):
            refused.result()
        assert log.stats().lag_seconds > 0
        other.execute("COMMIT")
        assert first.result(20) is None
        assert log.stats().queued == 0


def test_a_log_whose_file_was_put_away_begins_a_new_one(file: Path) -> None:
    with opened(f"sqlite:///{file}") as log:
        write(log, "a")
        for path in file.parent.glob("log.db*"):
            shutil.move(path, path.with_name(f"old-{path.name}"))
        write(log, "b")
    assert set(ids(f"sqlite:///{file}")) == {"b"}


def test_closing_writes_what_waits_and_then_takes_no_more(url: str) -> None:
    log = PredictionLog.open(url)
    futures = [log.submit([prediction(f"r{i}")]) for i in range(300)]
    log.close(20)
    assert [future.done() for future in futures] == [True] * 300
    assert len(ids(url)) == 300
    with pytest.raises(LogUnavailable, match="is closed"):
        log.submit([prediction("late")]).result(1)


def test_the_tables_are_those_that_the_migrations_make(url: str) -> None:
    engine = open_engine(url)
    prepare(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def older(url: str) -> Engine:
    """A log of schema 1, as the code of that time left it, with one prediction."""
    engine = open_engine(url)
    values = "'old', 0, '2026-01-01 00:00:00.000000', 'm', '1', false, '{}', 0.5, 1, 2"
    with engine.begin() as connection:
        upgrade(connection, "1")
        connection.execute(text(f"INSERT INTO predictions VALUES ({values})"))
    return engine


def test_an_older_log_is_brought_up_to_date_and_keeps_its_rows(url: str) -> None:
    older(url).dispose()
    with pytest.raises(LogUnfit, match=rf"has schema 1, this code reads {HEAD}\. Start the scorer"):
        read_log(url)
    with opened(url) as log:
        write(log, "new")
    assert set(read_log(url)["request_id"]) == {"old", "new"}
    assert give_feedback(url, [("old", 0, 1)]) == Counts(new=1)


def test_a_newer_log_is_refused_and_left_alone(url: str) -> None:
    engine = older(url)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '99'"))
    engine.dispose()
    for use in (PredictionLog.open, read_log, lambda url: give_feedback(url, [])):
        with pytest.raises(LogUnfit, match=f"has schema 99, and this code knows none newer than {HEAD}"):
            use(url)
    assert asked(url, f"SELECT version_num FROM {VERSION_TABLE}") == [("99",)]


def test_looking_for_a_log_makes_none(file: Path, server: str) -> None:
    for use in (read_log, lambda url: give_feedback(url, [])):
        with pytest.raises(LogUnfit, match="there is no prediction log at"):
            use(f"sqlite:///{file}")
    assert not file.exists()
    with pytest.raises(LogUnfit, match="there is no prediction log at"):
        read_log(new_database(server))


def test_labels_are_taken_once_and_the_newer_one_counts(url: str) -> None:
    with opened(url) as log:
        log.submit([prediction("a", row) for row in range(3)]).result(20)
        labels = [("a", 0, 1), ("a", 1, 0)]
        assert give_feedback(log.engine, labels) == Counts(new=2)
        assert give_feedback(log.engine, labels) == Counts(repeated=2)
        assert give_feedback(log.engine, [("a", 0, 0), ("a", 2, 1), ("a", 2, 1)]) == Counts(
            new=1, repeated=1, changed=1
        )
        unknown = [("a", 3, 1), ("b", 0, 1), ("c\0", 0, 1)]
        assert give_feedback(log.engine, unknown) == Counts(unknown=[key[:2] for key in unknown])
        with pytest.raises(FeedbackUnfit, match="the label of request 'a', row 0, is 2"):
            give_feedback(log.engine, [("a", 0, 2)])
    assert read_log(url, labels=True)["label"].tolist() == [0.0, 0.0, 1.0]


def test_labels_are_taken_from_a_file_by_command_line(file: Path) -> None:
    url, labels = f"sqlite:///{file}", file.with_name("labels.csv")
    with opened(url) as log:
        log.submit([prediction("a", row) for row in range(2)]).result(20)
    command = [sys.executable, "-P", "record/feedback.py", "--log_url", url, "--input", str(labels)]
    labels.write_text("request_id,row,label\na,0,1\na,1,maybe\nb,0,1\n")
    ended = run_command(*command, cwd=ROOT / "serve", PYTHONPATH="..")
    assert ended.returncode == 1
    assert ended.stderr == (
        f"FeedbackUnfit: {labels}: 1 line taken (1 new, 0 repeated, 0 changed), 2 not: "
        "line 3: label 'maybe' is not 0 or 1; request 'b', row 0, is not in the log. "
        "Mend these and give the file again: taken lines do no harm.\n"
    )
    labels.write_text("request_id,row,label\na,0,1\na,1,0\n")
    ended = run_command(*command, cwd=ROOT / "serve", PYTHONPATH="..")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == f"{labels}: 2 lines taken (1 new, 1 repeated, 0 changed)\n"


def test_what_is_redacted_is_nowhere_in_the_log(url: str) -> None:
    with opened(url, redact=["job"]) as log:
        write(log, "a")
    assert asked(url, "SELECT count(*) FROM predictions WHERE CAST(features AS TEXT) LIKE '%cook%'") == [(0,)]
    found = read_log(url)
    assert (found["AGE"].tolist(), found["job"].isna().tolist()) == ([24.0], [True])


def test_what_the_sampling_rate_leaves_out_is_counted(file: Path) -> None:
    with opened(f"sqlite:///{file}", sample_rate=0.3) as log:
        write(log, *(f"r{i}" for i in range(1000)))
        stats = log.stats()
    assert stats.committed + stats.not_kept == 1000
    assert 250 < stats.committed < 350
    assert len(ids(f"sqlite:///{file}")) == stats.committed


def aged(name: str, days: float, row: int = 0) -> Prediction:
    return replace(prediction(name, row), time=datetime.now(UTC) - timedelta(days=days))


def test_old_predictions_and_their_labels_are_removed(url: str) -> None:
    with opened(url) as log:
        log.submit([aged("old", 31, row) for row in range(PURGED_AT_ONCE + 10)]).result(20)
        log.submit([aged("young", 29)]).result(20)
        give_feedback(log.engine, [("old", 5, 1), ("young", 0, 1)])
        later = datetime.now(UTC) + timedelta(seconds=1)
        assert purge(log.engine, 30, later) == PURGED_AT_ONCE + 10
        assert purge(log.engine, 30, later) == 0
    assert ids(url) == {"young": 1}
    # a label goes once it is as old itself
    assert purge(open_engine(url), 1, later + timedelta(days=1)) == 1
    assert asked(url, "SELECT count(*) FROM feedback") == [(0,)]


def test_the_writer_removes_what_is_too_old_by_itself(file: Path) -> None:
    url = f"sqlite:///{file}"
    with opened(url) as log:
        log.submit([aged("old", 8, row) for row in range(2 * PURGED_AT_ONCE)]).result(20)
        log.submit([aged("young", 1)]).result(20)
    with opened(url, keep_days=7) as log:
        wait_until(lambda: log.stats().purged == 2 * PURGED_AT_ONCE, "old predictions are removed", 10)
    assert ids(url) == {"young": 1}

"""A dump of PostgreSQL's goes into a database as a stream, and all of it or nothing."""

from __future__ import annotations

import shutil
import subprocess
import tracemalloc
from pathlib import Path

import psycopg
import pytest

from backup.databases import restore_postgres, save_database
from backup.errors import SourceUnreadable
from tests.support.prediction_logs import create_database, query_database
from tests.support.servers import find_postgres_binary

ROWS = 20_000
TEXT = 500
"""Together 10 MB as SQL."""

COUNT = "SELECT count(*) FROM things"


@pytest.fixture(autouse=True)
def programs_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(find_postgres_binary('pg_dump')).parent}:/usr/bin:/bin")


@pytest.fixture(scope="module")
def dump(log_server: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    address, file = create_database(log_server), tmp_path_factory.mktemp("dump") / "things.pgdump"
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("CREATE TABLE things (n integer, t text)")
        rows = "INSERT INTO things SELECT n, md5(n::text) || repeat('x', %s) FROM generate_series(1, %s) AS n"
        connection.execute(rows, (TEXT, ROWS))
    subprocess.run([find_postgres_binary("pg_dump"), "--format=custom", f"--file={file}", address], check=True)
    return file


@pytest.fixture
def target(log_server: str) -> str:
    """A database that holds something already."""
    address = create_database(log_server)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("CREATE TABLE things AS SELECT 'old' AS t")
    return address


def test_a_restore_does_not_hold_the_dump_in_memory(dump: Path, target: str) -> None:
    tracemalloc.start()
    try:
        restore_postgres(dump, target)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert query_database(target, COUNT) == [(ROWS,)]
    assert peak < ROWS * TEXT / 10


def test_a_dump_that_breaks_off_changes_nothing(dump: Path, target: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pgdump"
    broken.write_bytes(dump.read_bytes()[: dump.stat().st_size // 2])
    with pytest.raises(SourceUnreadable, match="pg_restore: error"):
        restore_postgres(broken, target)
    assert query_database(target, "SELECT t FROM things") == [("old",)]


def test_a_statement_that_is_refused_in_the_middle_changes_nothing(dump: Path, target: str) -> None:
    """A trigger of the database refuses the table that the dump makes; psql ends before pg_restore does."""
    with psycopg.connect(target, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA guard")
        connection.execute("CREATE FUNCTION guard.refuse() RETURNS event_trigger LANGUAGE plpgsql AS "
                           "$$ BEGIN RAISE EXCEPTION 'no new tables here'; END $$")  # fmt: skip
        connection.execute("CREATE EVENT TRIGGER refuse ON ddl_command_end WHEN TAG IN ('CREATE TABLE') "
                           "EXECUTE FUNCTION guard.refuse()")  # fmt: skip
    with pytest.raises(SourceUnreadable, match="no new tables here"):
        restore_postgres(dump, target)
    assert query_database(target, "SELECT t FROM things") == [("old",)]


@pytest.mark.parametrize("missing", ["pg_restore", "psql"])
def test_a_program_that_is_not_on_this_machine_is_named_and_nothing_changes(
    dump: Path, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    (tmp_path / "bin").mkdir()
    for name in {"pg_restore", "psql", "sh"} - {missing}:
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or find_postgres_binary(name))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert shutil.which(missing) is None
    with pytest.raises(SourceUnreadable, match=rf"{missing}: .*not found.*client programs are installed"):
        restore_postgres(dump, target)
    assert query_database(target, "SELECT t FROM things") == [("old",)]


def test_a_password_is_on_no_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pg_dump").write_text(f'#!/bin/sh\necho "$PGPASSWORD $@" > {tmp_path}/seen\nexit 1\n')
    (tmp_path / "pg_dump").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(SourceUnreadable):
        save_database("a", "postgresql", "postgresql://me:p%40w:d@host:5432/log?options=a:b@c", tmp_path / "copy")
    words = (tmp_path / "seen").read_text().split()
    assert (words[0], words[-1]) == ("p@w:d", "postgresql://me@host:5432/log?options=a:b@c")

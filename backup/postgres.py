"""Save and restore a PostgreSQL database, by its own pg_dump, pg_restore and psql. PGPASSWORD holds the password."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from backup.errors import SourceUnreadable, TargetUnfit
from backup.undo import Undo

ENDING = ".pgdump"
PSQL = [
    "psql",
    "--no-psqlrc",
    "--quiet",
    "--tuples-only",
    "--no-align",
    "--field-separator=\t",
    "-v",
    "ON_ERROR_STOP=1",
]
ROWS = """SELECT table_name, (xpath('/row/n/text()', query_to_xml(
    format('SELECT count(*) AS n FROM %I.%I', table_schema, table_name), false, true, '')))[1]
    FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE' ORDER BY 1"""
VERSIONS = """SELECT table_name, (xpath('/row/version_num/text()', query_to_xml(
    format('SELECT version_num FROM %I.%I', table_schema, table_name), false, true, '')))[1]
    FROM information_schema.columns WHERE table_schema = 'public' AND column_name = 'version_num' ORDER BY 1"""
OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
TABLES = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT pg_export_snapshot();"
EMPTY = """DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION pg_database_owner;
    GRANT USAGE ON SCHEMA public TO PUBLIC;"""
END = "-- end"


class Session:
    """A psql that stays open, so that several commands see the database at one moment."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._process = subprocess.Popen(
            [*PSQL, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def ask(self, statement: str) -> list[list[str]]:
        """Return the rows of a statement, as text."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            print(statement, ";", f"\n\\echo '{END}'", file=self._process.stdin, flush=True)
        except BrokenPipeError:
            self._fail()
        lines: list[str] = []
        for line in self._process.stdout:
            if line.strip() == END:
                return [one.split("\t") for one in lines]
            lines.append(line.rstrip("\n"))
        return self._fail()

    def _fail(self) -> list[list[str]]:
        assert self._process.stderr
        said = " ".join(self._process.stderr.read().split())
        raise SourceUnreadable(
            f"{_shown(self._address)}: {said}. See that it runs and that PGPASSWORD is its password."
        )

    def close(self) -> None:
        self._process.communicate("\\quit\n")


def save(address: str, target: Path) -> tuple[dict[str, int], dict[str, str]]:
    """Dump a database as of one moment, and return its rows by table and its schema versions at that very moment."""
    session = Session(address)
    try:
        ((snapshot,),) = session.ask(SNAPSHOT)
        _run(["pg_dump", "--format=custom", f"--snapshot={snapshot}", f"--file={target}", address], address)
        return _facts(session)
    finally:
        session.close()


def facts(address: str) -> tuple[dict[str, int], dict[str, str]]:
    session = Session(address)
    try:
        return _facts(session)
    finally:
        session.close()


def _facts(session: Session) -> tuple[dict[str, int], dict[str, str]]:
    return {name: int(count) for name, count in session.ask(ROWS)}, {row[0]: row[1] for row in session.ask(VERSIONS)}


def expect_ready(address: str, replace: bool) -> None:
    """Raise TargetUnfit where somebody is connected, or where there are tables already and nobody said replace."""
    session = Session(address)
    try:
        ((others,),), ((tables,),) = session.ask(OTHERS), session.ask(TABLES)
    finally:
        session.close()
    if int(others):
        raise TargetUnfit(
            f"{_shown(address)} has {others} other connections. Stop what uses it first: "
            "docker compose -f docker/compose.yaml stop mlflow scorer airflow-api-server airflow-scheduler "
            "airflow-dag-processor airflow-triggerer grafana"
        )
    if int(tables) and not replace:
        raise TargetUnfit(f"{_shown(address)} holds {tables} tables already. Type replace=yes to restore over them.")


def restore(source: Path, address: str, undo: Undo) -> None:
    """Replace what a database holds by a dump, in one transaction: all of it, or nothing changes.

    The dump's SQL goes from pg_restore straight into psql, since it may be larger than the memory. psql commits only
    when it is told so at the end; where pg_restore breaks off it is not told, and PostgreSQL takes everything back.
    """
    with tempfile.TemporaryFile() as said:
        written, taken = _pipe(["pg_restore", "--file=-", str(source)], [*PSQL, "--output=/dev/null", address], said)
        if written or taken:
            said.seek(0)
            words = " ".join(said.read().decode(errors="replace").split())
            ended = f"exit status {written} of pg_restore, {taken} of psql"
            raise SourceUnreadable(f"pg_restore into psql of {_shown(address)}: {words[:400] or ended}")
    undo.settle(_shown(address))


def _pipe(writer: list[str], reader: list[str], said: IO[bytes]) -> tuple[int, int]:
    """Run both programs, the first writing to the second; return their exit statuses. Their complaints go to `said`."""
    with (
        _on_this_machine(reader),
        subprocess.Popen(reader, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, bufsize=0) as taking,
    ):
        assert taking.stdin
        written = 0
        with suppress(BrokenPipeError):  # the reader has ended, and has said why
            taking.stdin.write(f"BEGIN; SET client_min_messages = warning;\n{EMPTY}\n".encode())
            with _on_this_machine(writer):
                written = subprocess.run(writer, stdout=taking.stdin, stderr=said).returncode
            if not written:
                taking.stdin.write(b"COMMIT;\n")
    return written, taking.returncode


def _run(command: list[str], address: str) -> None:
    with _on_this_machine(command):
        ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        raise SourceUnreadable(f"{command[0]} of {_shown(address)}: {' '.join(ended.stderr.split())[:400]}")


@contextmanager
def _on_this_machine(command: list[str]) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise SourceUnreadable(f"{command[0]} is not on this machine; PostgreSQL's client programs have it.") from error


def _shown(address: str) -> str:
    """An address without the password that may be in it."""
    scheme, _, rest = address.partition("://")
    account, at, place = rest.rpartition("@")
    return f"{scheme}://{account.partition(':')[0]}{at}{place}"

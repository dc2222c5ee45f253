"""A real PostgreSQL server that a test can stop and start again."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.support.servers import find_postgres_binary, start_postgres, wait_until

RESTARTED: list[subprocess.Popen[bytes]] = []


@contextmanager
def stop_for_a_while(uri: str, how: signal.Signals) -> Iterator[None]:
    """Stop a PostgreSQL server that start_postgres started, and start it again after the block."""
    with psycopg.connect(uri) as connection:
        (folder,) = connection.execute("SHOW data_directory").fetchone() or ("",)
    data = Path(folder)
    pid = int((data / "postmaster.pid").read_text().split()[0])
    words, owner = shlex.split((data / "postmaster.opts").read_text()), data.stat().st_uid
    os.kill(pid, how)
    wait_until(lambda: not (data / "postmaster.pid").exists(), "PostgreSQL is down")
    yield
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([find_postgres_binary("postgres"), *words[1:]], cwd=data.parent, user=owner, **quiet)  # type: ignore[call-overload]  # its overloads know no **
    RESTARTED.append(process)
    wait_until(lambda: is_answering(uri), "PostgreSQL is up again")


def is_answering(uri: str) -> bool:
    try:
        psycopg.connect(uri, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def start_postgres_to_stop() -> Iterator[str]:
    """Start a separate PostgreSQL server, for `stop_for_a_while`."""
    with start_postgres() as uri:
        try:
            yield uri
        finally:
            while RESTARTED:
                process = RESTARTED.pop()
                process.send_signal(signal.SIGINT)
                process.wait(30)

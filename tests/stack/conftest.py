"""One stack for all tests of this folder: to start it takes longer than everything that is asked of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.stack import Stack, stack


@pytest.fixture(scope="session")
def running() -> Iterator[Stack]:
    """The core of the stack (PostgreSQL, MLflow with accounts, scorer), started in the order of the compose file."""
    # not below pytest's own folder, which no other account may enter
    folder = Path(tempfile.mkdtemp(prefix="stack-", dir=os.environ.get("STACK_FOLDER")))
    folder.chmod(0o755)
    with stack(folder) as started:
        started.up("scorer")
        started.wait_healthy("scorer")
        yield started


@pytest.fixture(scope="session")
def trained(running: Stack) -> Stack:
    """The same, after one pipeline on the bundled sample."""
    service = running.services["pipeline"]
    ended = running.run("pipeline", service.command, timeout=900)
    assert ended.returncode == 0, ended.stdout[-3000:]
    return running

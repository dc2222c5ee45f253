"""One stack for all tests of this folder, because its start takes longer than the tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.stack import Stack, stack


@pytest.fixture(scope="session")
def running() -> Iterator[Stack]:
    """Return the running core of the stack: PostgreSQL, MLflow with accounts, and the scorer."""
    # Other accounts cannot enter the temporary folder of pytest.
    folder = Path(tempfile.mkdtemp(prefix="stack-", dir=os.environ.get("STACK_FOLDER")))
    folder.chmod(0o755)
    with stack(folder) as started:
        started.up("scorer")
        started.wait_healthy("scorer")
        yield started


@pytest.fixture(scope="session")
def trained(running: Stack) -> Stack:
    """Return the running stack after one pipeline run on the bundled sample."""
    service = running.services["pipeline"]
    result = running.run("pipeline", service.command, timeout=900)
    assert result.returncode == 0, result.stdout[-3000:]
    return running

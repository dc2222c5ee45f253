"""Script that is forked from the same process as a pipeline's steps, in which the libraries are already loaded."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.launch.forkserver import WarmProcess, warm_up
from tests.conftest import make_command_env

SECONDS = 300
SECONDS_TO_END = 30


@dataclass
class Script:
    process: WarmProcess
    _output: Path

    @property
    def said(self) -> str:
        """Output so far, of both streams."""
        return self._output.read_text()


@contextmanager
def start_warm_script(code: str, *words: str) -> Iterator[Script]:
    """Start `code` with `words` as its arguments; kill its remaining processes after the block."""
    with TemporaryDirectory(prefix="script-") as folder:
        Path(folder, "run.py").write_text(code)
        output = Path(folder, "output.txt")
        output.touch()
        warm_up()
        process = WarmProcess(list(words), folder, make_command_env(), output)
        try:
            yield Script(process, output)
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                process.wait(SECONDS_TO_END)


def run_warm(code: str, *words: str) -> tuple[int | None, str]:
    """Run a script to its end; return its exit status and its output."""
    with start_warm_script(code, *words) as script:
        return script.process.wait(SECONDS), script.said

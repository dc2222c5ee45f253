"""A script that starts from the process which a pipeline's steps start from: the libraries are loaded there."""

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
        """What it has written so far, on both streams."""
        return self._output.read_text()


@contextmanager
def start_warm_script(code: str, *words: str) -> Iterator[Script]:
    """Start `code` with `words` as its arguments; whatever is left of it is killed with the `with`."""
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
    """Run a script to its end; return its exit status and what it wrote."""
    with start_warm_script(code, *words) as script:
        return script.process.wait(SECONDS), script.said

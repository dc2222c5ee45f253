"""Processes of the acceptance loop: each in its own process group, with its output in a file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from loop.polling import StoryFailed
from stepkit.paths import ROOT
from stepkit.processes import end_groups, start_in_session

SECONDS_TO_STOP = 30.0
SECONDS_TO_RUN = 600.0
LAST_LINES = 15


class Processes:
    """Commands and servers with a common environment; leaving the context stops those that still run."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self._env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", **env}
        self._started: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self, name: str, *command: str) -> None:
        """Start a server in the background."""
        self._started.append((name, start_in_session(command, self.get_log_path(name), self._env, ROOT)))

    def run(self, name: str, *command: str) -> None:
        """Run a command and wait for its end.

        Raises:
            StoryFailed: the command exceeds the time limit, or its exit status is not 0.
        """
        self.start(name, *command)
        _, process = self._started[-1]
        try:
            process.wait(SECONDS_TO_RUN)
        except subprocess.TimeoutExpired as error:
            raise StoryFailed(
                f"{name}: not finished after {SECONDS_TO_RUN:g} s. {self._read_last_lines(name)}"
            ) from error
        self._started.pop()
        if process.returncode:
            raise StoryFailed(f"{name}: exit status {process.returncode}. {self._read_last_lines(name)}")

    def verify_running(self) -> bool:
        """Return True if all servers are running; raise StoryFailed if a server has ended."""
        for name, process in self._started:
            if process.poll() is not None:
                raise StoryFailed(f"{name}: exit status {process.returncode}. {self._read_last_lines(name)}")
        return True

    def get_log_path(self, name: str) -> Path:
        """Return the file with the output of a process."""
        return self.folder / f"{name}.log"

    def _read_last_lines(self, name: str) -> str:
        lines = self.get_log_path(name).read_text(errors="replace").splitlines()[-LAST_LINES:]
        return "Last lines of its output:\n" + "\n".join(lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        end_groups([process for _, process in reversed(self._started)], SECONDS_TO_STOP)

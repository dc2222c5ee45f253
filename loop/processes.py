"""Processes that belong to one story: each in a group of its own, its output in a file, all ended with the story."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from stepkit.paths import ROOT
from stepkit.processes import end_groups, start_in_session

SECONDS_TO_END = 30.0
LAST_LINES = 15


class CommandFailed(Exception):
    """A command of the story did not end with 0, or a server of it ended too soon."""


class Processes:
    """Starts commands and servers with one environment; leaving the context ends what still runs."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.python = sys.executable
        self._env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", **env}
        self._started: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self, name: str, *command: str, **env: str) -> None:
        """Start a server in the background."""
        process = start_in_session(command, self.log_of(name), {**self._env, **env}, ROOT)
        self._started.append((name, process))

    def run(self, name: str, *command: str, seconds: float = 600) -> str:
        """Run a command to its end; return its output.

        Raises:
            CommandFailed: it took too long, or did not end with 0.
        """
        before = self.log_of(name).stat().st_size if self.log_of(name).exists() else 0
        self.start(name, *command)
        _, process = self._started[-1]
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(f"{name} took longer than {seconds:g} s. {self.last_lines(name)}") from error
        self._started.pop()
        if process.returncode:
            raise CommandFailed(f"{name} ended with {process.returncode}. {self.last_lines(name)}")
        return self.log_of(name).read_bytes()[before:].decode(errors="replace")

    def all_run(self) -> bool:
        """Return True.

        Raises:
            CommandFailed: a server has ended.
        """
        for name, process in self._started:
            if process.poll() is not None:
                raise CommandFailed(f"{name} ended with {process.returncode}. {self.last_lines(name)}")
        return True

    def log_of(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def last_lines(self, name: str) -> str:
        lines = self.log_of(name).read_text(errors="replace").splitlines()[-LAST_LINES:]
        return "Its last lines:\n" + "\n".join(lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        end_groups([process for _, process in reversed(self._started)], SECONDS_TO_END)

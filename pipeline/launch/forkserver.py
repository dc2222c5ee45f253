"""Forkserver: a `multiprocessing` process with the heavy libraries loaded, from which steps start as children."""

from __future__ import annotations

import gc
import multiprocessing
import os
import runpy
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection, forkserver
from pathlib import Path

from stepkit.paths import ROOT
from stepkit.processes import accept_ctrl_c, defer_ctrl_c, end_with_parent

COMMAND = ["PYTHONPATH=..", "python", "-P", "run.py"]
"""Beginning of the command of every step. The arguments of its run.py follow."""

PRELOADED = "pipeline.launch.preload"
"""Module that the forkserver imports; it imports the heavy libraries."""

_context = multiprocessing.get_context("forkserver")

_polling = threading.Lock()
"""Lock around starting and polling children. An exit status can be read only once, and starting a child reads those of
all other children, so that jobs in other threads would lose them."""


class WarmProcess:
    """Process of one step, with the part of subprocess.Popen's interface that the launcher needs."""

    def __init__(self, arguments: list[str], folder: str, env: dict[str, str], log_file: Path) -> None:
        self._process = _context.Process(target=_run_step, args=(arguments, folder, env, str(log_file)))
        with _polling:
            self._process.start()
        self.pid = int(self._process.pid or 0)

    def poll(self) -> int | None:
        """Return the exit status, or None while the process runs."""
        with _polling:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the process to end; return its exit status, or raise TimeoutExpired after `timeout` seconds."""
        connection.wait([self._process.sentinel], timeout)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired("run.py", timeout or 0)
        return status


@contextmanager
def pause_gc() -> Iterator[None]:
    """Exclude the objects created in this context from garbage collection.

    Imported modules are never freed, and scanning them takes a long time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def warm_up() -> None:
    """Start loading the libraries in the background and return at once. Call it early and only once."""
    # The server finds its modules through the PYTHONPATH that it inherits, whatever the working directory is.
    before = os.environ.get("PYTHONPATH")
    paths = [str(ROOT), *filter(None, [before])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    _context.set_forkserver_preload([PRELOADED])
    with defer_ctrl_c():  # Ctrl-C would end the server with a traceback while it loads.
        forkserver.ensure_running()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


def stop_forkserver() -> None:
    """Stop the forkserver if it was started. After an early error it would keep loading libraries for seconds."""
    pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]  # multiprocessing has no public function for this
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def parse_step_arguments(command: str) -> list[str] | None:
    """Return the arguments of run.py in a step's command; None if the command has another form."""
    words = shlex.split(command)
    return words[len(COMMAND) :] if words[: len(COMMAND)] == COMMAND else None


def _run_step(arguments: list[str], folder: str, env: dict[str, str], log_file: str) -> None:
    """Set up the child process like `bash -c "PYTHONPATH=.. python -P run.py ..."`, and execute run.py."""
    os.setsid()
    accept_ctrl_c()
    end_with_parent()
    os.environ.clear()
    os.environ.update(env, PYTHONPATH="..")
    output = os.open(log_file, os.O_WRONLY | os.O_APPEND)
    for stream, target in ((os.open(os.devnull, os.O_RDONLY), 0), (output, 1), (output, 2)):
        os.dup2(stream, target)
    os.chdir(folder)
    sys.argv = ["run.py", *arguments]
    sys.path[:] = [str(ROOT), *[path for path in sys.path if path not in ("", str(ROOT))]]
    runpy.run_path("run.py", run_name="__main__")

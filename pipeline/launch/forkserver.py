"""Start steps as children of one process that has the heavy libraries loaded (a `multiprocessing` forkserver)."""

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
"""How the command of every step begins; what follows are the arguments of its run.py."""

PRELOADED = "pipeline.launch.preload"
"""What the process imports from which steps start: a module that imports all that is heavy."""

_context = multiprocessing.get_context("forkserver")

_polling = threading.Lock()
"""An exit status is read once, and starting a child reads those of all others: jobs in threads would lose theirs."""


class WarmProcess:
    """One step's process, with as much of subprocess.Popen's interface as the launcher needs."""

    def __init__(self, arguments: list[str], folder: str, env: dict[str, str], log_file: Path) -> None:
        self._process = _context.Process(target=_run_step, args=(arguments, folder, env, str(log_file)))
        with _polling:
            self._process.start()
        self.pid = int(self._process.pid or 0)

    def poll(self) -> int | None:
        with _polling:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; return the exit status, or raise TimeoutExpired after `timeout` seconds."""
        connection.wait([self._process.sentinel], timeout)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired("run.py", timeout or 0)
        return status


@contextmanager
def pause_gc() -> Iterator[None]:
    """Leave what is imported meanwhile out of garbage collection: it stays, and to look through it takes long."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def warm_up() -> None:
    """Begin to load the libraries, in the background; returns at once. To be called early and once."""
    # the server looks for its modules on the path that it inherits, whatever the working directory is
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    _context.set_forkserver_preload([PRELOADED])
    with defer_ctrl_c():  # the server would end in a traceback while it still loads
        forkserver.ensure_running()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


def stop_forkserver() -> None:
    """End the process that loads libraries, if it was started: after a mistake it would go on loading for seconds."""
    pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]  # there is no public way to end it
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def parse_step_arguments(command: str) -> list[str] | None:
    """Return the arguments of run.py in a step's command; None if the command is of another form."""
    words = shlex.split(command)
    return words[len(COMMAND) :] if words[: len(COMMAND)] == COMMAND else None


def _run_step(arguments: list[str], folder: str, env: dict[str, str], log_file: str) -> None:
    """In the child: become what `bash -c "PYTHONPATH=.. python -P run.py ..."` would have been, and run it."""
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

"""Start steps as children of one process that has the heavy libraries loaded (a `multiprocessing` forkserver)."""

from __future__ import annotations

import gc
import multiprocessing
import os
import runpy
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection, forkserver
from multiprocessing.process import parent_process
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
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

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end, `timeout` seconds at most; return the exit status, or None if it still runs."""
        connection.wait([self._process.sentinel], timeout)
        return self.poll()


@contextmanager
def importing() -> Iterator[None]:
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
    # Ctrl-C reaches the server too, and it would end in a traceback while it still loads; its children heed it again
    heeding = signal.signal(signal.SIGINT, signal.SIG_IGN)
    forkserver.ensure_running()
    signal.signal(signal.SIGINT, heeding)
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


def cool_down() -> None:
    """End the process that loads libraries, if it was started: after a mistake it would go on loading for seconds."""
    pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]  # there is no public way to end it
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def step_arguments(command: str) -> list[str] | None:
    """Return the arguments of run.py in a step's command; None if the command is of another form."""
    words = shlex.split(command)
    return words[len(COMMAND) :] if words[: len(COMMAND)] == COMMAND else None


def _run_step(arguments: list[str], folder: str, env: dict[str, str], log_file: str) -> None:
    """In the child: become what `bash -c "PYTHONPATH=.. python -P run.py ..."` would have been, and run it."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _end_with_the_pipeline()
    os.environ.clear()
    os.environ.update(env, PYTHONPATH="..")
    output = os.open(log_file, os.O_WRONLY | os.O_APPEND)
    for stream, target in ((os.open(os.devnull, os.O_RDONLY), 0), (output, 1), (output, 2)):
        os.dup2(stream, target)
    os.chdir(folder)
    sys.argv = ["run.py", *arguments]
    sys.path[:] = [str(ROOT), *[path for path in sys.path if path not in ("", str(ROOT))]]
    runpy.run_path("run.py", run_name="__main__")


def _end_with_the_pipeline() -> None:
    """End this step in order when the pipeline's process is gone without having asked for it (kill -9)."""
    pipeline = parent_process()

    def watch() -> None:
        if pipeline is not None:
            connection.wait([pipeline.sentinel])
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()

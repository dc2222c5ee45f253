"""A call in a process of its own, whose memory and imports are gone with it."""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Generic, Self, TypeVar

from serve.errors import ProcessLost

T = TypeVar("T")
_context = multiprocessing.get_context("spawn")


class Apart(Generic[T]):
    """A process that begins to import `modules` at once, and makes one call of `function` when it is asked to.

    The function, its arguments, what it returns and what it raises are pickled.
    """

    def __init__(self, function: Callable[..., T], *modules: str) -> None:
        self._function = function
        self._ours, theirs = _context.Pipe()
        self._process = _context.Process(target=_answer, args=(theirs, modules), daemon=True)
        with _deaf_to_ctrl_c():
            self._process.start()
        theirs.close()

    def __call__(self, *arguments: object) -> T:
        """Make the call.

        Raises:
            ProcessLost: the process has ended without an answer.
            Exception: what the function raises.
        """
        try:
            self._ours.send((self._function, arguments))
            result, error = self._ours.recv()
        except (EOFError, ConnectionError) as lost:
            self._process.join()
            raise ProcessLost(
                f"the process for {self._function.__name__} ended with status {self._process.exitcode} and no answer. "
                "-9 means that it was killed, as is done where memory is short: free some and type the same again."
            ) from lost
        if error is not None:
            raise error
        answer: T = result
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ours.close()
        self._process.kill()
        self._process.join()


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Let what is started meanwhile ignore Ctrl-C, which reaches it too; who started it ends it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heeding = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, heeding)


def _answer(connection: Connection, modules: tuple[str, ...]) -> None:
    """Run in the process: import, wait for the call, answer it."""
    gc.disable()  # the process makes one call: what it imports stays, and to look through it takes long
    answer: tuple[object, Exception | None]
    try:
        for module in modules:
            importlib.import_module(module)
        function, arguments = connection.recv()
        answer = function(*arguments), None
    except EOFError:  # nobody asks any more
        return
    except Exception as error:
        answer = None, error
    connection.send(answer)

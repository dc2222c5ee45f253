"""A call in a process of its own, whose memory and imports are gone with it."""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Generic, Self, TypeVar

from serve.errors import ProcessLost
from stepkit.errors import StepError
from stepkit.processes import ctrl_c_deferred, end_with_parent

T = TypeVar("T")
_context = multiprocessing.get_context("spawn")


class Apart(Generic[T]):
    """A process that begins to import `modules` at once, and makes one call of `function` when it is asked to.

    The function, its arguments and what it returns are pickled. The caller's main module is imported there too, so it
    needs a `if __name__ == "__main__":`.
    """

    def __init__(self, function: Callable[..., T], *modules: str) -> None:
        self._function = function
        self._ours, theirs = _context.Pipe()
        self._process = _context.Process(target=_answer, args=(theirs, modules), daemon=True)
        with ctrl_c_deferred():
            self._process.start()
        theirs.close()

    def __call__(self, *arguments: object) -> T:
        """Make the call.

        Raises:
            ProcessLost: the process has ended without an answer.
            StepError: what the function raises.
            RuntimeError: it raised anything else; a note has the traceback.
        """
        try:
            self._ours.send((self._function, arguments))
            result, error = self._ours.recv()
        except (EOFError, ConnectionError) as lost:
            self._process.join()
            status = self._process.exitcode
            killed = " It was killed, as is done where memory is short: free some and type the same again."
            raise ProcessLost(
                f"the process for {self._function.__name__} ended with status {status} and no answer."
                f"{killed if status == -signal.SIGKILL else ''}"
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


def _answer(connection: Connection, modules: tuple[str, ...]) -> None:
    """Run in the process: import, wait for the call, answer it."""
    end_with_parent()
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
        answer = None, _sendable(error)
    with suppress(BrokenPipeError):
        connection.send(answer)


def _sendable(error: Exception) -> Exception:
    """Return an error that survives the way to the other process; a surprise says where it was raised."""
    if isinstance(error, StepError):
        return error
    found = RuntimeError(f"{type(error).__name__}: {error}")
    found.add_note("".join(traceback.format_exception(error)))
    return found

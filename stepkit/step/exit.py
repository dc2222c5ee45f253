"""The boundary of a command: an error with a cause outside of this code ends it with one message, no traceback."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from stepkit.errors import StepError
from stepkit.files import disk_problem, file_problem
from stepkit.secret_urls import error_text


def leave(error: StepError, status: int = 1) -> NoReturn:
    print(error_text(error), file=sys.stderr, flush=True)
    sys.exit(status)


@contextmanager
def one_message() -> Iterator[None]:
    """End the process by `leave` where an error is raised inside whose cause is outside of this code."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, as in `make models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except Exception as error:
        if problem := as_step_error(error):
            leave(problem)
        raise


def as_step_error(error: BaseException) -> StepError | None:
    """Return the error to show for a cause outside of this code (server, store, disk), or None: it is our own."""
    if isinstance(error, StepError):
        return error
    if "mlflow.exceptions" in sys.modules:  # batch scoring loads MLflow in processes of its own only
        from stepkit.store.tracking import trouble_of

        if problem := trouble_of(error, last_resort=True):
            return problem
    return disk_problem(error) or (file_problem(error) if isinstance(error, OSError) else None)

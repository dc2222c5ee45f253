"""Exit of a command: an error that the user can fix ends the process with one message and no traceback."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from stepkit.errors import StepError
from stepkit.files import to_disk_error, to_file_error
from stepkit.secret_urls import format_error


def exit_with_error(error: StepError, status: int = 1) -> NoReturn:
    """Print the message of an error to standard error and end the process."""
    print(format_error(error), file=sys.stderr, flush=True)
    sys.exit(status)


@contextmanager
def exit_on_error() -> Iterator[None]:
    """End the process with a message if the block raises an error that the user can fix."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # the reader closed the pipe, as in `make models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except Exception as error:
        if problem := to_step_error(error):
            exit_with_error(problem)
        raise


def to_step_error(error: BaseException) -> StepError | None:
    """Return the error to print for a problem of server, store or disk, or None if the error is a bug of this code."""
    if isinstance(error, StepError):
        return error
    if "mlflow.exceptions" in sys.modules:  # the main process of batch scoring does not load MLflow
        from stepkit.store.tracking import to_store_error

        if problem := to_store_error(error, last_resort=True):
            return problem
    return to_disk_error(error) or (to_file_error(error) if isinstance(error, OSError) else None)

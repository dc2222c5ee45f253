"""The boundary of a command: an error with a cause outside of this code ends it with one message, no traceback."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from stepkit.errors import DiskUnusable, StepError, told

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
_BROKEN = {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ENOTCONN}
"""The last two are of a network mount whose server went away."""

_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}


def leave(error: StepError, status: int = 1) -> NoReturn:
    print(told(error), file=sys.stderr, flush=True)
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
        from stepkit.tracking import trouble_of

        if problem := trouble_of(error, last_resort=True):
            return problem
    return disk_problem(error) or (_file_problem(error) if isinstance(error, OSError) else None)


def disk_problem(error: BaseException) -> StepError | None:
    """Return the error to show if a disk is full, read-only or broken, else None."""
    if not isinstance(error, OSError) or error.errno not in _FULL | _FORBIDDEN | _BROKEN:
        return None
    if error.errno in _FULL:
        return _unusable(error, "Make room on its disk (df -h), then run the same command again.")
    if error.errno in _FORBIDDEN:
        return _unusable(error, "Give this user the right to write there, or name another place.")
    return _unusable(error, "Look at the system's log and limits (dmesg, ulimit -n), then run the same command again.")


def _file_problem(error: OSError) -> StepError | None:
    if "temporary directory" in str(error):
        return DiskUnusable("TMPDIR: no folder for temporary files can be written. Set TMPDIR to one that has room.")
    if error.errno not in _NOT_THERE or not error.filename:
        return None
    return _unusable(error, "Make its folder, or name another place.")


def _unusable(error: OSError, instead: str) -> DiskUnusable:
    return DiskUnusable(f"{error.filename or 'this machine'}: {error.strerror or error}. {instead}")

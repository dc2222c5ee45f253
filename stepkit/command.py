"""How a command ends that meets a mistake which a person can mend: one message, no traceback, exit status not 0."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from stepkit.errors import StepError, told


def leave(error: StepError, status: int = 1) -> NoReturn:
    print(told(error), file=sys.stderr, flush=True)
    sys.exit(status)


@contextmanager
def one_message() -> Iterator[None]:
    """End the process by `leave` where a StepError is raised inside."""
    try:
        yield
    except StepError as error:
        leave(error)

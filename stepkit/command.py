"""How a command ends that meets a mistake which a person can mend: one message, no traceback, exit status 1."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from stepkit.errors import StepError


def leave(error: StepError) -> NoReturn:
    print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    sys.exit(1)


@contextmanager
def one_message() -> Iterator[None]:
    """End the process by `leave` where a StepError is raised inside."""
    try:
        yield
    except StepError as error:
        leave(error)

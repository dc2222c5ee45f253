"""Structured log: one JSON line on standard output for each request and each event, without any value of a row."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson


def log_event(event: str, **fields: Any) -> None:
    """Write one line to standard output, in a single write so that lines of several workers do not mix."""
    line = {"time": datetime.now(UTC), "event": event, **fields}
    with suppress(OSError):  # a closed log must not stop the scorer
        os.write(1, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE, default=str))

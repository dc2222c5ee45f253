"""JSON that every parser accepts: RFC 8259 has neither NaN nor Infinity, which Python writes by default."""

from __future__ import annotations

import json
import math
from typing import Any


def write_json(value: Any) -> str:
    """Return `value` as JSON with a line end; numbers that are not finite become null."""
    return json.dumps(_without_infinite(value), indent=2, allow_nan=False) + "\n"


def _without_infinite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_infinite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""JSON that every parser accepts: RFC 8259 excludes NaN and Infinity, which Python writes by default."""

from __future__ import annotations

import json
import math
from typing import Any


def to_json(value: Any) -> str:
    """Return `value` as indented JSON with a final newline; NaN and infinite numbers become null."""
    return json.dumps(_replace_infinite(value), indent=2, allow_nan=False) + "\n"


def _replace_infinite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _replace_infinite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_infinite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

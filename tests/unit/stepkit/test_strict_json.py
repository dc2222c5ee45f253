"""JSON files hold no NaN and no Infinity, which RFC 8259 does not know."""

from __future__ import annotations

import json
import math

from stepkit.strict_json import write_json


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def test_numbers_that_are_not_finite_become_null_at_any_depth() -> None:
    value = {"mean": math.inf, "columns": [{"score": math.nan, "rows": 3}, (1.5, -math.inf)], "name": "NaN"}
    assert json.loads(write_json(value), parse_constant=refuse) == {
        "mean": None,
        "columns": [{"score": None, "rows": 3}, [1.5, None]],
        "name": "NaN",
    }

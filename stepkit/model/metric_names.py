"""Metric names of MLflow for columns of any name."""

from __future__ import annotations

import hashlib
import posixpath
import re

LONGEST = 200
"""MLflow takes 250 characters; the rest is for a prefix such as drift_score."""

FORBIDDEN = re.compile(r"[^\w.\- /]")


def make_metric_name(column: str) -> str:
    """Return a name that MLflow takes and that no other column gets; the column's own name where MLflow takes it.

    A name that has to change ends with a digest of the column's name: `rate%` and `rate$` stay distinct, and a column
    keeps its metric whichever columns are beside it.
    """
    cleaned = FORBIDDEN.sub("_", column)
    if posixpath.normpath(f".{cleaned}") != f".{cleaned}":
        cleaned = cleaned.replace("/", "_")
    if cleaned == column and len(column) <= LONGEST:
        return column
    return f"{cleaned[:LONGEST]}_{hashlib.sha256(column.encode()).hexdigest()[:6]}"

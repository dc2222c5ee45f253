"""Metric names that MLflow accepts, for columns with any name."""

from __future__ import annotations

import hashlib
import posixpath
import re

LONGEST = 200
"""MLflow accepts 250 characters; the difference is left for a prefix such as `drift_score.`."""

FORBIDDEN = re.compile(r"[^\w.\- /]")


def make_metric_name(column: str) -> str:
    """Return a unique metric name for a column: the column's own name if MLflow accepts it.

    In any other name, forbidden characters are replaced and a digest of the column's name is appended. `rate%` and
    `rate$` stay distinct, and the name does not depend on the other columns of the table.
    """
    cleaned = FORBIDDEN.sub("_", column)
    # MLflow treats a name as a path and rejects a name that resolves to another one.
    if any(posixpath.normpath(prefix + cleaned) != prefix + cleaned for prefix in (".", "prefix.")):
        cleaned = cleaned.replace("/", "_")
    if cleaned == column and len(column) <= LONGEST:
        return column
    return f"{cleaned[:LONGEST]}_{hashlib.sha256(column.encode()).hexdigest()[:6]}"

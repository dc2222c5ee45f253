"""Peak memory of a call, counted in allocated bytes, which are the same on every machine."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pandas as pd


def measure_peak_bytes(call: Callable[[], object]) -> int:
    """Return the peak number of bytes that Python, NumPy and pandas allocate during `call`."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def count_bytes(table: pd.DataFrame) -> int:
    return int(table.memory_usage(index=False, deep=True).sum())

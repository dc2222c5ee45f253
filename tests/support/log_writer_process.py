"""Processes that write to a prediction log and print "PID REQUEST_ID" once a request is acknowledged, until killed.

Run: python record_writer.py URL. For each line on standard input, HOW_MANY PREFIX PREFIX ..., it forks one process
for each prefix at the same moment and prints "ended" after the last of them.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from concurrent.futures import Future
from datetime import UTC, datetime

from prediction_log.writer import Prediction, PredictionLog

AT_ONCE = 16
ROWS = 2


def make_prediction(request_id: str, row: int = 0) -> Prediction:
    features: dict[str, float | str | None] = {"AGE": 24.0 + row, "job": "cook", "LIMIT_BAL": None}
    return Prediction(request_id, row, datetime.now(UTC), "credit", "3", False, features, 0.25, 0, 1.5)


def write(url: str, prefix: str, how_many: int) -> None:
    """Write requests of ROWS rows each, with AT_ONCE requests in flight."""
    log = PredictionLog.open(url)
    waiting: deque[tuple[str, Future[None]]] = deque()
    for number in range(how_many):
        name = f"{prefix}-{number}"
        waiting.append((name, log.submit([make_prediction(name, row) for row in range(ROWS)])))
        if len(waiting) >= AT_ONCE:
            acknowledge(*waiting.popleft())
    for name, future in waiting:
        acknowledge(name, future)
    log.close()


def acknowledge(name: str, future: Future[None]) -> None:
    future.result()
    os.write(1, f"{os.getpid()} {name}\n".encode())  # A single write, so that no reader sees half a line.


def main(url: str) -> None:
    for line in sys.stdin:
        how_many, *prefixes = line.split()
        children = []
        for prefix in prefixes:
            child = os.fork()
            if not child:
                write(url, prefix, int(how_many))
                os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
        os.write(1, b"ended\n")


if __name__ == "__main__":
    main(sys.argv[1])

"""Microbatches: requests that arrive in one iteration of the event loop are scored together.

One call of ONNX Runtime takes little longer for 32 rows than for one row. Each call also releases Python's interpreter
lock and waits for it afterwards. The score of a row does not depend on the other rows of a call.
"""

from __future__ import annotations

import asyncio

import numpy as np

from serve.model.onnx_graph import Rows, Scores
from serve.model.servable import Servable

WaitingRequests = list[tuple[Rows, asyncio.Future[Scores]]]


class Batcher:
    """Batches of one event loop; not thread-safe."""

    def __init__(self) -> None:
        """Start without waiting requests."""
        self._waiting: dict[int, tuple[Servable, WaitingRequests]] = {}

    async def score(self, rows: Rows, model: Servable) -> Scores:
        """Return the scores of n rows, computed together with other requests for the same model."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Scores] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.setdefault(id(model), (model, []))[1].append((rows, future))
        return await future

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for model, requests in waiting.values():
            _score_requests(model, requests)


def _score_requests(model: Servable, requests: WaitingRequests) -> None:
    try:
        scores = model.score(join_rows([rows for rows, _ in requests]))
    except Exception as error:  # Raised to the requests, not in the event loop.
        if len(requests) > 1:
            for request in requests:  # Only a request whose own rows fail gets the error.
                _score_requests(model, [request])
        elif not requests[0][1].done():
            requests[0][1].set_exception(error)
        return
    start = 0
    for rows, future in requests:
        end = start + rows.count
        if not future.done():  # A request that timed out has cancelled its future.
            future.set_result(Scores(scores.probability[start:end], scores.predicted[start:end]))
        start = end


def join_rows(tables: list[Rows]) -> Rows:
    """Join tables with the same columns into one."""
    first = tables[0]
    if len(tables) == 1:
        return first
    numbers = np.concatenate([table.numbers for table in tables], axis=1)
    texts = {name: np.concatenate([table.texts[name] for table in tables]) for name in first.texts}
    return Rows(first.names, numbers, texts, sum(table.count for table in tables))

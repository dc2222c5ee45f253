"""Score what arrives in one turn of the event loop together.

One call of ONNX Runtime for 32 rows takes little longer than for one, and each call hands Python's interpreter lock to
another thread and has to wait for it afterwards. A row's answer does not depend on the rows beside it.
"""

from __future__ import annotations

import asyncio

import numpy as np

from serve.model.onnx_graph import Rows, Scores
from serve.model.servable import Servable

WaitingRequests = list[tuple[Rows, asyncio.Future[Scores]]]


class Batcher:
    """Belongs to one event loop; every method is called from it."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[Servable, WaitingRequests]] = {}

    async def score(self, rows: Rows, model: Servable) -> Scores:
        """Return the scores of n rows, computed with those of others that wait for the same model."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Scores] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.setdefault(id(model), (model, []))[1].append((rows, future))
        return await future

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for model, together in waiting.values():
            _score_requests(model, together)


def _score_requests(model: Servable, together: WaitingRequests) -> None:
    try:
        scores = model.score(join_rows([rows for rows, _ in together]))
    except Exception as error:  # it belongs to those who wait, not to the event loop
        if len(together) > 1:
            for one in together:  # only the request whose rows the model fails at gets the error
                _score_requests(model, [one])
        elif not together[0][1].done():
            together[0][1].set_exception(error)
        return
    start = 0
    for rows, future in together:
        end = start + rows.count
        if not future.done():  # else its request ran out of time
            future.set_result(Scores(scores.probability[start:end], scores.predicted[start:end]))
        start = end


def join_rows(tables: list[Rows]) -> Rows:
    """Return the rows of several tables with the same columns as one table."""
    first = tables[0]
    if len(tables) == 1:
        return first
    numbers = np.concatenate([table.numbers for table in tables], axis=1)
    texts = {name: np.concatenate([table.texts[name] for table in tables]) for name in first.texts}
    return Rows(first.names, numbers, texts, sum(table.count for table in tables))

"""Requests of one event loop iteration are scored together, and each gets its own scores or error."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import numpy as np

from serve.model.microbatch import Batcher, join_rows
from serve.model.onnx_graph import Rows, Scores
from serve.model.servable import Servable


class Doubling:
    """Model whose score is twice the number in a row; records the number of rows of each call."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def score(self, rows: Rows) -> Scores:
        self.calls.append(rows.count)
        if (rows.numbers < 0).any():
            raise ValueError("negative")
        return Scores((rows.numbers[0] * 2).tolist(), [0] * rows.count)


def make_rows(*values: float) -> Rows:
    return Rows(("a",), np.array([values]), {}, len(values))


def score_together(*requests: tuple[Doubling, tuple[float, ...]]) -> list[Any]:
    """Return the scores or errors of requests in one iteration, and the scores of a later request."""

    async def score() -> list[Any]:
        batcher = Batcher()
        requests_in_turn = [batcher.score(make_rows(*values), cast(Servable, model)) for model, values in requests]
        scores = await asyncio.gather(*requests_in_turn, return_exceptions=True)
        return [*scores, await batcher.score(make_rows(5.0), cast(Servable, requests[0][0]))]

    return asyncio.run(score())


def test_requests_of_one_turn_share_a_call_and_get_their_own_rows() -> None:
    model = Doubling()
    all_scores = score_together((model, (1.0,)), (model, (2.0, 3.0)), (model, (4.0,)))
    assert [scores.probability for scores in all_scores] == [[2.0], [4.0, 6.0], [8.0], [10.0]]
    assert model.calls == [4, 1]


def test_two_models_are_never_mixed() -> None:
    first, second = Doubling(), Doubling()
    score_together((first, (1.0,)), (second, (1.0,)), (first, (1.0,)))
    assert (first.calls, second.calls) == ([2, 1], [1])


def test_an_error_reaches_only_the_request_whose_rows_cause_it() -> None:
    model = Doubling()
    first, failed, last, later = score_together((model, (1.0,)), (model, (2.0, -1.0)), (model, (3.0,)))
    assert (first, last, later) == (Scores([2.0], [0]), Scores([6.0], [0]), Scores([10.0], [0]))
    assert isinstance(failed, ValueError)


def test_joined_tables_keep_their_texts() -> None:
    first = Rows(("a",), np.array([[1.0]]), {"t": np.array(["x"], dtype=object)}, 1)
    second = Rows(("a",), np.array([[2.0, 3.0]]), {"t": np.array(["y", ""], dtype=object)}, 2)
    joined = join_rows([first, second])
    assert joined.to_dicts() == [{"a": 1.0, "t": "x"}, {"a": 2.0, "t": "y"}, {"a": 3.0, "t": None}]

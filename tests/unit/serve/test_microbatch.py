"""Requests of one turn of the event loop are scored together, and each gets its own answer or error."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import numpy as np

from serve.model.microbatch import Batcher, join_rows
from serve.model.onnx_graph import Rows, Scores
from serve.model.servable import Servable


class Doubling:
    """Answers each row with twice its number, and notes how many rows each call had."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def score(self, rows: Rows) -> Scores:
        self.calls.append(rows.count)
        if (rows.numbers < 0).any():
            raise ValueError("negative")
        return Scores((rows.numbers[0] * 2).tolist(), [0] * rows.count)


def rows_with(*values: float) -> Rows:
    return Rows(("a",), np.array([values]), {}, len(values))


def asked(*requests: tuple[Doubling, tuple[float, ...]]) -> list[Any]:
    """The answers or errors of requests that arrive in one turn, and of one that arrives after them."""

    async def ask() -> list[Any]:
        batcher = Batcher()
        together = [batcher.score(rows_with(*values), cast(Servable, model)) for model, values in requests]
        answers = await asyncio.gather(*together, return_exceptions=True)
        return [*answers, await batcher.score(rows_with(5.0), cast(Servable, requests[0][0]))]

    return asyncio.run(ask())


def test_requests_of_one_turn_share_a_call_and_get_their_own_rows() -> None:
    model = Doubling()
    answers = asked((model, (1.0,)), (model, (2.0, 3.0)), (model, (4.0,)))
    assert [one.probability for one in answers] == [[2.0], [4.0, 6.0], [8.0], [10.0]]
    assert model.calls == [4, 1]


def test_two_models_are_never_mixed() -> None:
    one, other = Doubling(), Doubling()
    asked((one, (1.0,)), (other, (1.0,)), (one, (1.0,)))
    assert (one.calls, other.calls) == ([2, 1], [1])


def test_an_error_reaches_only_the_request_whose_rows_cause_it() -> None:
    model = Doubling()
    first, failed, last, later = asked((model, (1.0,)), (model, (2.0, -1.0)), (model, (3.0,)))
    assert (first, last, later) == (Scores([2.0], [0]), Scores([6.0], [0]), Scores([10.0], [0]))
    assert isinstance(failed, ValueError)


def test_joined_tables_keep_their_texts() -> None:
    first = Rows(("a",), np.array([[1.0]]), {"t": np.array(["x"], dtype=object)}, 1)
    second = Rows(("a",), np.array([[2.0, 3.0]]), {"t": np.array(["y", ""], dtype=object)}, 2)
    both = join_rows([first, second])
    assert both.dictionaries() == [{"a": 1.0, "t": "x"}, {"a": 2.0, "t": "y"}, {"a": 3.0, "t": None}]

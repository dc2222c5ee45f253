"""Recorded rows as a version takes them, and the reasons why a version cannot score some of them."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, cast

import numpy as np
import pytest

from prediction_log.rows import REDACTED
from serve.audit.records import parse_records
from serve.model.onnx_graph import Graph

NAMES = ("age", "job", "debt")


def make_model(names: tuple[str, ...] = NAMES, text: tuple[str, ...] = ("job",)) -> Graph:
    return Graph("credit", "1", names, text, 0.5, cast(Any, None))


def parse(model: Graph, *records: dict[str, Any], hidden: tuple[str, ...] = ()) -> tuple[Any, list[int], Counter[str]]:
    rows, _, places, skipped = parse_records(model, [json.dumps(record) for record in records], hidden)
    return rows, places, skipped


ROW = {"debt": 5, "job": "cook", "age": 30.5, "more": "x"}


@pytest.mark.parametrize(
    ("names", "text", "numbers", "texts"),
    [
        (NAMES, ("job",), [[30.5, np.nan], [5, np.inf]], {"job": ["cook", ""]}),
        (("debt",), (), [[5, np.inf]], {}),
        (("job",), ("job",), [], {"job": ["cook", ""]}),
    ],
    ids=["numbers and a text", "one number", "only a text"],
)
def test_missing_and_infinite_values_are_as_the_model_takes_them(
    names: tuple[str, ...], text: tuple[str, ...], numbers: list[list[float]], texts: dict[str, list[str]]
) -> None:
    rows, places, skipped = parse(make_model(names, text), ROW, {"age": None, "job": None, "debt": "Infinity"})
    assert (places, skipped, rows.count) == ([0, 1], Counter(), 2)
    np.testing.assert_array_equal(rows.numbers, np.array(numbers, dtype=float).reshape(len(numbers), 2))
    assert {name: column.tolist() for name, column in rows.texts.items()} == texts


@pytest.mark.parametrize(
    ("changes", "hidden", "reason"),
    [
        ({"age": "old"}, (), "column age has the wrong type on record (found a text, expected a number)"),
        ({"job": 3}, (), "column job has the wrong type on record (found a number, expected a text)"),
        ({REDACTED: '["age"]', "age": None}, (), "column age is redacted (serve.redact)"),
        ({"age": None}, ("age",), "column age is redacted (serve.redact)"),
        ({REDACTED: '["more"]', "more": None}, (), ""),
        ({REDACTED: '["more"]', "age": None}, ("age",), ""),
    ],
)
def test_a_row_that_the_version_cannot_score_is_counted_with_the_reason(
    changes: dict[str, Any], hidden: tuple[str, ...], reason: str
) -> None:
    _, places, skipped = parse(make_model(), ROW, {**ROW, **changes}, ROW, hidden=hidden)
    assert places == ([0, 2] if reason else [0, 1, 2])
    assert skipped == (Counter([reason]) if reason else Counter())


def test_a_row_without_a_column_of_the_version_is_not_scored_with_a_gap() -> None:
    _, places, skipped = parse(make_model((*NAMES, "town"), ("job", "town")), {**ROW, "town": "Taipei"}, ROW)
    assert places == [0]
    assert skipped == {"column town is not on record": 1}

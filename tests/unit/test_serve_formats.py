"""Request bodies become rows: the fast reader takes the usual ones, and agrees with MLflow's wherever it does."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.models import Model

from random_forest.export import signature_of
from serve.errors import Refusal
from serve.formats import fast, slow
from serve.graph import Rows
from serve.model import Servable

JSON = "application/json"
ROW = {"AGE": 24.0, "CITY": "Taipei", "SEX": 2.0}


def servable(names: list[str], text: list[str]) -> Servable:
    """A version of a model as far as reading goes: its columns and its signature, without a graph."""
    metadata = Model(signature=signature_of(names, text))
    return Servable("m", "1", tuple(names), tuple(text), 0.5, None, metadata, pd.DataFrame([ROW]))


NUMBERS = servable(["AGE", "SEX"], [])
TEXTS = servable(["AGE", "CITY", "SEX"], ["CITY"])


def shapes(rows: list[dict[str, Any]]) -> dict[str, bytes]:
    """The same rows in each JSON format."""
    columns = list(rows[0])
    made: dict[str, Any] = {
        "dataframe_split": {"columns": columns, "data": [[row[name] for name in columns] for row in rows]},
        "dataframe_records": rows,
        "instances": rows,
        "inputs": {name: [row[name] for row in rows] for name in columns},
    }
    return {name: json.dumps({name: shape}).encode() for name, shape in made.items()}


def same(one: Rows, other: Rows) -> bool:
    texts = {name: list(column) for name, column in one.texts.items()}
    return (
        np.array_equal(one.numbers, other.numbers, equal_nan=True)
        and texts == {name: list(column) for name, column in other.texts.items()}
        and (one.names, one.count, one.dictionaries()) == (other.names, other.count, other.dictionaries())
    )


@pytest.mark.parametrize("kind", ["dataframe_split", "dataframe_records", "instances", "inputs"])
@pytest.mark.parametrize("model", [NUMBERS, TEXTS], ids=["numbers", "texts"])
@pytest.mark.parametrize("age", [24, 24.5, None, True, -1, 1e39], ids=str)
def test_the_fast_reader_reads_what_mlflow_reads(kind: str, model: Servable, age: Any) -> None:
    rows = [{name: row[name] for name in model.names} for row in ({**ROW, "AGE": age}, ROW)]
    body = shapes(rows)[kind]
    quick = fast(body, JSON, model)
    assert quick is not None
    assert same(quick, slow(body, JSON, model))


@pytest.mark.parametrize("kind", ["dataframe_split", "dataframe_records"])
def test_a_missing_text_is_the_empty_text_and_null_on_record(kind: str) -> None:
    body = shapes([{**ROW, "CITY": None}, ROW])[kind]
    quick = fast(body, JSON, TEXTS)
    assert quick is not None
    assert same(quick, slow(body, JSON, TEXTS))
    assert list(quick.texts["CITY"]) == ["", "Taipei"]
    assert [row["CITY"] for row in quick.dictionaries()] == [None, "Taipei"]


def test_columns_may_stand_in_any_order_and_others_are_ignored() -> None:
    body = json.dumps({"dataframe_split": {"columns": ["x", "SEX", "AGE"], "data": [["?", 1, 2]]}}).encode()
    quick = fast(body, JSON, NUMBERS)
    assert quick is not None
    assert quick.dictionaries() == [{"AGE": 2.0, "SEX": 1.0}]
    assert same(quick, slow(body, JSON, NUMBERS))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", b"{", b'{"instances": []}', b'{"inputs": {"AGE": 1, "SEX": 2}}',
        b'{"dataframe_split": {"data": [[1, 2]]}}',
        b'{"dataframe_split": {"columns": ["AGE", "SEX"], "data": []}}',
        b'{"dataframe_split": {"columns": ["AGE", "SEX"], "data": [[1]]}}',
        b'{"dataframe_split": {"columns": ["AGE", "SEX"], "data": [[1, 2]], "index": [1, 2]}}',
        b'{"dataframe_split": {"columns": ["AGE", "SEX", "AGE"], "data": [[1, 2, 3]]}}',
        b'{"dataframe_records": [{"AGE": 1, "SEX": "2"}]}',
        b'{"dataframe_records": [{"AGE": 1}]}',
        b'{"dataframe_records": [{"AGE": 1, "SEX": NaN}]}',
        b'{"dataframe_records": [{"AGE": 1, "SEX": 1e999}]}',
        b'{"dataframe_records": [{"AGE": 1, "SEX": [2]}]}',
        b'{"dataframe_records": [{"AGE": 1, "SEX": 2}], "params": {}}',
        b'{"instances": [{"AGE": 1, "SEX": 2, "more": {}}]}',
    ],
)  # fmt: skip
def test_the_fast_reader_leaves_the_unusual_to_mlflow(body: bytes) -> None:
    assert fast(body, JSON, NUMBERS) is None


@pytest.mark.parametrize(
    ("body", "kind", "field"),
    [
        (b'{"dataframe_records": [{"AGE": 1}]}', JSON, "SEX"),
        (b'{"instances": [{"AGE": 1, "SEX": "x"}]}', JSON, "SEX"),
        (b'{"inputs": {"AGE": ["x"], "SEX": [1]}}', JSON, "AGE"),
        (b'{"dataframe_split": {"columns": ["AGE", "SEX", "AGE"], "data": [[1, 2, 3]]}}', JSON, "AGE"),
        (b'{"dataframe_split": [1]}', JSON, "dataframe_split"),
        (b'{"dataframe_split": {"more": 1, "columns": [{"a": 1}, {"b": 1}], "data": []}}', JSON, "dataframe_split"),
        (b'{"rows": []}', JSON, "body"),
        (b"{", JSON, "body"),
        (b"[" * 100_000, JSON, "body"),
        (b"AGE,SEX\n1,x\n", "text/csv", "SEX"),
        (b"AGE\n1\n", "text/csv", "SEX"),
        (b"{}", "text/plain", "Content-Type"),
    ],
)
def test_a_refusal_names_the_field(body: bytes, kind: str, field: str) -> None:
    with pytest.raises(Refusal) as caught:
        slow(body, kind, NUMBERS)
    assert caught.value.field == field
    assert 400 <= caught.value.status < 500
    assert caught.value.message


def test_a_refusal_does_not_repeat_the_table() -> None:
    with pytest.raises(Refusal, match=r"^Model is missing inputs \['SEX'\]\.$"):
        slow(b'{"dataframe_records": [{"AGE": 123456}]}', JSON, NUMBERS)


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.sampled_from(["1", " 2", "nan", "1_0"]),
)
JUNK = st.recursive(
    CELLS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["AGE", "SEX", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
ROWS = st.lists(st.fixed_dictionaries({"AGE": CELLS, "SEX": CELLS}, optional={"x": JUNK}), max_size=3)
TABLES = st.one_of(
    st.builds(lambda rows: {"dataframe_records": rows}, ROWS),
    st.builds(lambda rows: {"instances": rows}, ROWS),
    st.builds(lambda rows: {"inputs": rows}, ROWS),
    st.builds(lambda a, b: {"inputs": {"AGE": a, "SEX": b}}, st.lists(CELLS, max_size=3), st.lists(CELLS, max_size=3)),
    st.builds(
        lambda rows, index: {"dataframe_split": {"columns": ["SEX", "AGE"], "data": rows, **index}},
        st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=3),
        st.fixed_dictionaries({}, optional={"index": JUNK}),
    ),
    st.builds(
        lambda key, junk: {key: junk},
        st.sampled_from(["dataframe_split", "dataframe_records", "instances", "inputs"]),
        JUNK,
    ),
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(TABLES)
def test_whatever_is_sent_both_readers_agree_or_it_is_refused_by_its_field(table: Any) -> None:
    body = json.dumps(table).encode()
    quick, careful = fast(body, JSON, NUMBERS), slowly(body)
    if isinstance(careful, Rows):
        assert quick is None or same(quick, careful)
    else:
        assert quick is None
        assert 400 <= careful.status < 500
        assert careful.field
        assert careful.message


def slowly(body: bytes) -> Rows | Refusal:
    try:
        return slow(body, JSON, NUMBERS)
    except Refusal as refusal:
        return refusal

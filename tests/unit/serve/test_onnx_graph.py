"""Arrays for the graph from an Arrow table equal those from a pandas table."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow.exceptions import MlflowException

from serve.batch.run import to_model_rows
from serve.errors import ModelRefused
from serve.model.onnx_graph import Graph
from serve.model.servable import Servable
from stepkit.errors import explain_without_rows

TEXTS = ["a", None, "ü", ""]
KINDS = {
    "text": pa.array(TEXTS, pa.string()),
    "large text": pa.array(TEXTS, pa.large_string()),
    "categories": pa.array(TEXTS, pa.string()).dictionary_encode(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_gaps_are_nan_and_empty_text(kind: str) -> None:
    graph = make_graph(Graph)
    numbers = pa.array([1.5, None, float("nan"), -0.0])
    rows = to_model_rows(graph, pa.table({"KIND": KINDS[kind], "OTHER": numbers, "AGE": numbers}))
    assert rows.names == ("AGE",)
    assert np.array_equal(rows.numbers, [[1.5, np.nan, np.nan, 0.0]], equal_nan=True)
    assert rows.texts["KIND"].tolist() == ["a", "", "ü", ""]
    assert rows.count == 4


def test_an_arrow_table_in_chunks_gives_the_same_arrays_as_pandas() -> None:
    table = pd.DataFrame({"AGE": [1.0, np.nan, 3.0], "KIND": ["x", None, "y"]})
    pieces = pa.concat_tables([pa.Table.from_pandas(table.iloc[:1]), pa.Table.from_pandas(table.iloc[1:])])
    from_arrow = to_model_rows(make_graph(Graph), pieces)
    from_pandas = make_graph(Servable, metadata=None, example=None).to_rows(table)
    assert np.array_equal(from_arrow.numbers, from_pandas.numbers, equal_nan=True)
    assert from_arrow.texts["KIND"].tolist() == from_pandas.texts["KIND"].tolist()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("could not convert string to float: '4711'"), "ValueError"),
        (KeyError("4711"), "KeyError"),
        (
            MlflowException("Failed to enforce schema of data '[4711]'. Error: Model is missing inputs ['AGE']."),
            "MlflowException: Model is missing inputs ['AGE']",
        ),
        (ModelRefused("version 3: no signature."), "version 3: no signature."),
    ],
)
def test_a_reason_does_not_repeat_values_of_a_row(error: Exception, reason: str) -> None:
    assert explain_without_rows(error) == reason


def make_graph(graph_class: Any, **fields: Any) -> Any:
    session = cast(Any, SimpleNamespace())
    return graph_class("m", "1", ("AGE", "KIND"), ("KIND",), 0.5, session, **fields)

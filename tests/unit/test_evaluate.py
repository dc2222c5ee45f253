"""evaluate: a model is asked about a large table in parts, and its answers stand in the table's order."""

from __future__ import annotations

from typing import cast

import pandas as pd
import pytest
from mlflow.pyfunc import PyFuncModel

from evaluate import answers
from evaluate.answers import score
from tests.unit.small import CLIENTS, clients


class Asked:
    """A model that answers with a client's age, and remembers how many rows it was asked about each time."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        self.rows.append(len(rows))
        return pd.DataFrame({"probability": rows["AGE"] / 100, "class": 1}, index=rows.index)


@pytest.mark.parametrize(
    ("at_once", "parts"), [(100, [4]), (4, [4]), (3, [2, 2]), (2, [2, 2]), (1, [1, 1, 1, 1])], ids=str
)
def test_a_large_table_is_scored_in_even_parts_and_in_order(
    monkeypatch: pytest.MonkeyPatch, at_once: int, parts: list[int]
) -> None:
    monkeypatch.setattr(answers, "ROWS_AT_ONCE", at_once)
    model = Asked()
    answer = score(cast(PyFuncModel, model), clients().loc[[3, 1, 0, 2]], CLIENTS)
    assert model.rows == parts
    assert answer["probability"].to_dict() == {3: 0.45, 1: 0.57, 0: 0.24, 2: 0.34}
    assert answer.index.tolist() == [3, 1, 0, 2]

"""evaluate: a large table is scored in parts, and the predictions are in the table's order."""

from __future__ import annotations

import time
from typing import cast

import pandas as pd
import pytest
from mlflow.pyfunc import PyFuncModel

from evaluate import predictions
from evaluate.champion_comparison import CannotCompare, mark_training_rows
from evaluate.predictions import compute_calm_median, measure_latency_ms, score_table
from stepkit.table.tables import add_column
from tests.support.small_data import CLIENTS, make_clients


class Asked:
    """Model that predicts a client's age, and records the number of rows of each call."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        self.rows.append(len(rows))
        return pd.DataFrame({"probability": rows["AGE"] / 100, "class": 1}, index=rows.index)


def test_the_time_of_an_answer_is_that_of_a_machine_with_nothing_else_to_do() -> None:
    quiet = [(0.004, 1.0)] * 60
    busy = [(0.004 * 20, 20.0)] * 45 + [(0.004 * 2, 2.0)] * 15
    assert compute_calm_median(quiet) == compute_calm_median(busy) == pytest.approx(0.004)
    assert compute_calm_median([(0.080, 1.0)] * 60) == pytest.approx(0.080), "a slow model on a quiet machine is slow"
    spoiled = [(0.004, 1.0)] * 40 + [(0.3, 1.0)] * 20
    assert compute_calm_median(spoiled) == pytest.approx(0.004), (
        "some answers that waited while the work beside them did not"
    )


def test_a_model_that_waits_is_not_taken_for_one_on_a_busy_machine() -> None:
    class Waits(Asked):
        def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
            time.sleep(0.01)
            return super().predict(rows)

    assert measure_latency_ms(cast(PyFuncModel, Waits()), make_clients(), CLIENTS) > 5


@pytest.mark.parametrize(
    ("at_once", "parts"), [(100, [4]), (4, [4]), (3, [2, 2]), (2, [2, 2]), (1, [1, 1, 1, 1])], ids=str
)
def test_a_large_table_is_scored_in_even_parts_and_in_order(
    monkeypatch: pytest.MonkeyPatch, at_once: int, parts: list[int]
) -> None:
    monkeypatch.setattr(predictions, "ROWS_AT_ONCE", at_once)
    model = Asked()
    answer = score_table(cast(PyFuncModel, model), make_clients().loc[[3, 1, 0, 2]], CLIENTS)
    assert model.rows == parts
    assert answer.probability.tolist() == [0.45, 0.57, 0.24, 0.34]


def test_rows_that_the_champion_knows_are_found_by_value() -> None:
    trained_on = make_clients().iloc[[1, 3]].astype({"AGE": float})
    assert list(mark_training_rows(trained_on, make_clients(), CLIENTS)) == [False, True, False, True]


@pytest.mark.parametrize("column", ["AGE", CLIENTS.target])
def test_a_champion_of_a_table_with_other_types_is_not_compared(column: str) -> None:
    trained_on = add_column(make_clients(), column, "young")
    with pytest.raises(CannotCompare, match=r"with other types of columns$"):
        mark_training_rows(trained_on, make_clients(), CLIENTS)

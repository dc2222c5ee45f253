"""ROC AUC of one column alone: known answers, missing values, codes that identify rows, and suspicions of leakage."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from stepkit.model.single_column import (
    Ranking,
    Suspicion,
    assign_folds,
    compute_auc,
    compute_code_auc,
    compute_column_aucs,
    explain_suspicions,
    find_suspicions,
    rank_by_number,
)
from stepkit.table.columns import Column, Columns

RANDOM = np.random.default_rng(7)
ROWS = 400
LABELS = np.arange(ROWS) % 4 // 3
"""Every fourth row has class 1."""


def describe(**columns: Column) -> Columns:
    return Columns(source_target="y", target="y", columns=columns)


def compute_alone(values: object, column: Column, labels: np.ndarray = LABELS) -> float:
    """Return the ROC AUC of the only column of a table."""
    return compute_column_aucs(pd.DataFrame({"x": values}), describe(x=column), labels, ["x"])["x"]


TEXT = Column(type="text", role="categorical")
CODE = Column(role="categorical")


def test_auc_of_four_rows_by_hand() -> None:
    # Of the four pairs of a 1 and a 0, two are in order, one is a tie and one is not in order.
    assert compute_auc(np.array([1, 0, 1, 0]), np.array([3.0, 3.0, 2.0, 1.0])) == (1 + 0.5 + 1 + 0) / 4
    assert math.isnan(compute_auc(np.array([1, 1]), np.array([3.0, 2.0])))


def test_auc_is_that_of_scikit_learn() -> None:
    scores = RANDOM.integers(0, 9, ROWS) + LABELS
    assert compute_auc(LABELS, scores) == pytest.approx(roc_auc_score(LABELS, scores))


def test_a_number_ranks_by_value_in_its_better_direction() -> None:
    labels = np.array([0, 0, 1, 1])
    assert rank_by_number(np.array([1.0, 3.0, 2.0, 4.0]), labels) == Ranking(0.75, 1, 2.5)
    assert rank_by_number(np.array([4.0, 2.0, 3.0, 1.0]), labels) == Ranking(0.75, -1, -2.5)


@pytest.mark.parametrize(
    ("values", "missing"), [([1.0, 2.0, math.nan, math.nan], math.inf), ([math.nan, math.nan, 1.0, 2.0], -math.inf)]
)
def test_missing_numbers_rank_where_they_belong(values: list[float], missing: float) -> None:
    ranking = rank_by_number(np.array(values), np.array([0, 0, 1, 1]))
    assert (ranking.auc, ranking.missing) == (1.0, missing)


def test_a_column_without_values_ranks_nothing() -> None:
    assert rank_by_number(np.full(4, math.nan), np.array([0, 0, 1, 1])).auc == 0.5


def test_every_part_has_its_share_of_both_classes() -> None:
    parts = assign_folds(LABELS)
    assert np.bincount(parts[LABELS == 1]).tolist() == [20] * 5
    assert np.bincount(parts[LABELS == 0]).tolist() == [60] * 5


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(LABELS, id="a copy as a number"),
        pytest.param(np.where(LABELS == 1, "yes", "No "), id="a copy in other words"),
        pytest.param(np.where(LABELS == 1, math.nan, 5.0), id="missing only in class 1"),
        pytest.param(-1e9 * LABELS + RANDOM.random(ROWS), id="a sum that falls"),
        pytest.param(
            pd.Series("paid", range(ROWS), dtype=object).where(LABELS == 0).to_numpy(),
            id="a text missing only in class 1",
        ),
    ],
)
def test_a_column_that_holds_the_label_is_suspicious(values: np.ndarray) -> None:
    column = TEXT if values.dtype.kind in "UO" else Column(type="float")
    assert compute_alone(values, column) == 1.0


def test_a_code_with_a_copy_of_the_label_is_suspicious_whatever_its_order() -> None:
    assert compute_alone(np.where(LABELS == 1, 2.0, np.arange(ROWS) % 2 * 4.0), CODE) == 1.0


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([f"client {row}" for row in range(ROWS)], id="one code per row"),
        pytest.param([f"household {row // 2}" for row in range(ROWS)], id="one code per two rows"),
        pytest.param(["same"] * ROWS, id="one code"),
        pytest.param(RANDOM.integers(0, 100, ROWS).astype(str), id="100 random codes"),
    ],
)
def test_codes_without_meaning_are_not_suspicious(values: list[str]) -> None:
    assert 0.35 < compute_alone(values, TEXT) < 0.65


def test_a_code_ranks_by_the_shares_in_the_other_rows() -> None:
    codes = np.where(RANDOM.random(ROWS) < 0.2 + 0.6 * LABELS, "b", "a")
    apparent = roc_auc_score(LABELS, codes == "b")
    assert compute_code_auc(pd.Series(codes), LABELS) == pytest.approx(apparent, abs=1e-9)


def test_rows_without_a_label_do_not_count() -> None:
    labels = np.where(np.arange(ROWS) < 10, math.nan, LABELS)
    values = np.where(np.arange(ROWS) < 10, 1 - LABELS, LABELS)
    assert compute_alone(values, Column(), labels) == 1.0


@pytest.mark.parametrize("positives", [4, 5])
def test_a_rare_class_needs_five_rows(positives: int) -> None:
    labels = (np.arange(1000) < positives).astype(int)
    aucs = compute_column_aucs(pd.DataFrame({"x": labels}), describe(x=Column()), labels, ["x"])
    assert aucs == ({"x": 1.0} if positives == 5 else {})


def test_a_table_of_19_rows_raises_no_suspicion() -> None:
    labels = np.arange(19) % 2
    assert compute_column_aucs(pd.DataFrame({"x": labels}), describe(x=Column()), labels, ["x"]) == {}


def test_chance_raises_no_suspicion_in_small_tables() -> None:
    labels = np.arange(50) % 5 // 4
    columns = describe(**{f"x{number}": Column(type="float") for number in range(2000)})
    table = pd.DataFrame(RANDOM.random((50, 2000)), columns=columns.names)
    assert find_suspicions(compute_column_aucs(table, columns, labels, columns.names), columns) == []


def test_a_warning_names_the_columns_that_were_not_checked() -> None:
    columns = describe(a=Column(), b=Column(), c=Column()).model_copy(update={"leakage_checked": ["b"]})
    suspicions = find_suspicions({"a": 0.98, "b": 1.0, "c": 0.9799}, columns)
    assert suspicions == [Suspicion("b", 1.0, True), Suspicion("a", 0.98, False)]
    assert "a (0.980)" in explain_suspicions(suspicions)
    assert "b (" not in explain_suspicions(suspicions)
    assert explain_suspicions(suspicions[:1]) == ""

"""stepkit.table.labels: rows without a label are named by every step that reads the target."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from stepkit.errors import TableUnfit
from stepkit.table.columns import Columns
from stepkit.table.labels import expect_labels, known_labels, labels_of
from tests.support.small_data import LOANS


def table(*values: object) -> pd.DataFrame:
    return pd.DataFrame({"late": list(values)})


@pytest.mark.parametrize("read", [expect_labels, labels_of])
def test_rows_without_a_label_are_counted_and_named_with_a_way_on(read: object) -> None:
    rows = table(1, None, 0, None, *[1, None] * 4)
    with pytest.raises(TableUnfit) as caught:
        read(rows, "late")  # type: ignore[operator]
    text = str(caught.value)
    assert "target 'late': 6 of 12 rows have no label: rows 1, 3, 5, 7, 9 and 1 more" in text
    assert "Fill in their labels or remove these rows" in text


def test_one_row_without_a_label_is_one_row() -> None:
    with pytest.raises(TableUnfit, match=r"1 of 3 rows have no label: row 2, counted from 0"):
        expect_labels(table("a", "b", None), "late")


@pytest.mark.parametrize(
    "values", [[0, 1], [0.0, 1.0], ["0", "1"], ["1.00", "0.00"], pd.array([0, 1], "Int64")], ids=str
)
def test_numbers_of_any_type_are_labels(values: list[object]) -> None:
    assert sorted(labels_of(pd.DataFrame({"late": values}), "late").tolist()) == [0, 1]


@pytest.mark.parametrize(("values", "held"), [([0, 1, 2], "0, 1, 2"), ([0, 0], "0"), (["no", 0, 1], "0, 1, no")])
def test_a_target_that_is_not_both_0_and_1_is_refused(values: list[object], held: str) -> None:
    with pytest.raises(TableUnfit, match=rf"'late' must hold both 0 and 1, and holds: {held}\."):
        labels_of(table(*values), "late")


SAME_NAME = LOANS.model_copy(update={"target": "repaid"})
FLAGS = SAME_NAME.model_copy(update={"negative": "false", "positive": "true"})


@pytest.mark.parametrize(
    ("columns", "values"),
    [
        (LOANS, pd.Series(["yes", "no", None, "maybe"], name="repaid")),
        (LOANS, pd.Series([0, 1, None, 2], name="default")),
        (SAME_NAME, pd.Series(["yes", "no", None, "maybe"], name="repaid")),
        (SAME_NAME, pd.Series([0, 1, None, 2], name="repaid")),
        (FLAGS, pd.Series([False, True, None, None], dtype=object, name="repaid")),
    ],
    ids=["before", "after", "before, one name", "after, one name", "booleans"],
)
def test_the_labels_of_a_window_are_known_before_and_after_preprocess(columns: Columns, values: pd.Series) -> None:
    assert known_labels(values, columns).tolist()[:2] == [0, 1]
    assert np.isnan(known_labels(values, columns)[2:]).all()

"""Every column has its own metric, whatever its name."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from stepkit.model.metric_names import make_metric_name

PLAIN = ["AGE", "PAY_0", "bill amount", "a.b-c", "a/b", "größe"]
ODD = ["a//b", "/a", "a/", "a/../b", "rate%", "rate$", "rate:", "x" * 300, "x" * 301, "two\nlines", "", ".", "a_b"]


@pytest.mark.parametrize("column", PLAIN)
def test_a_plain_name_stays_as_it_is(column: str) -> None:
    assert make_metric_name(column) == column


def test_columns_that_look_alike_once_cleaned_stay_distinct() -> None:
    assert len({make_metric_name(column) for column in ODD}) == len(ODD)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300) | st.text(alphabet="/.a%", max_size=12))
def test_mlflow_takes_the_name_of_any_column(column: str) -> None:
    _validate_metric_name(f"drift_score.{make_metric_name(column)}")

"""Labelled rows of the log, and tables, of a data set with dates and lists of classes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pandas as pd

from drift.compare.inputs import _split_label
from drift.compare.sources import WatchedVersion
from drift.labelled import build_labelled_table
from preprocess.classes import select_classes
from preprocess.run import clean_table
from stepkit.table.columns import Column, Columns

BOOK = Columns(
    source_target="status",
    target="default",
    negative=["Fully Paid", "Closed"],
    positive=["Charged Off", "Default"],
    time_column="issue_d",
    columns={"amount": Column()},
)


def make_log() -> pd.DataFrame:
    columns: dict[str, Any] = {
        "request_id": ["a", "b", "c"], "row": 0, "model_version": "1", "amount": [1.0, 2.0, 3.0],
        "time": pd.to_datetime(["2026-01-31 23:00", "2026-02-01 08:00", "2026-02-02 09:00"], utc=True),
        "probability": 0.5, "predicted": 1, "latency_ms": 1.0, "label": [1.0, None, 0.0],
    }  # fmt: skip
    return pd.DataFrame(columns)


def test_a_label_becomes_the_first_value_of_its_class_and_the_prediction_gives_the_date() -> None:
    table = build_labelled_table(make_log(), BOOK)
    assert table["status"].tolist() == ["Charged Off", "Fully Paid"]
    assert table["issue_d"].tolist() == ["2026-01-31T23:00:00", "2026-02-02T09:00:00"]
    selected, others = select_classes(table, BOOK)
    assert clean_table(selected, BOOK)["default"].tolist() == [1, 0], "preprocess takes the table as it is"
    assert others.empty


def test_a_date_that_is_an_input_comes_from_the_log() -> None:
    columns = BOOK.model_copy(update={"columns": {**BOOK.columns, "issue_d": Column()}})
    table = build_labelled_table(make_log().assign(issue_d=[201512.0, 201601.0, 201602.0]), columns)
    assert table["issue_d"].tolist() == [201512, 201602]


def test_the_date_of_a_row_is_not_compared_for_drift_unless_it_is_an_input() -> None:
    table = pd.DataFrame({"amount": [1], "issue_d": ["2015-12-01"], "status": ["Current"]})
    rows, label = _split_label(table, cast(WatchedVersion, SimpleNamespace(columns=BOOK)))
    assert list(rows) == ["amount"]
    assert label is not None
    assert pd.isna(label[0]), "an unfinished loan has no label"
    with_date = BOOK.model_copy(update={"columns": {**BOOK.columns, "issue_d": Column(type="float")}})
    assert list(_split_label(table, cast(WatchedVersion, SimpleNamespace(columns=with_date)))[0]) == [
        "amount",
        "issue_d",
    ]

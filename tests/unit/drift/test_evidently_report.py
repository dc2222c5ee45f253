"""Evidently report with a column named `score`, and with columns that cannot be drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from drift.compare.evidently_report import build_snapshot, choose_score_name, compare_by_evidently, round_down
from drift.compare.inputs import Current, Reference, Sides
from drift.compare.performance import ScoredRows
from drift.compare.signals import judge
from stepkit.settings.drift import Monitoring

ROWS = 300


@pytest.mark.parametrize("count", [1, 3, 24, 10_001])
def test_a_rounded_share_still_tells_the_number_of_columns(count: int) -> None:
    for columns in range(1, count + 1):
        assert (columns - 1) / count < round_down(columns, count) <= columns / count


@pytest.mark.parametrize("columns", [["AGE"], ["score"], ["score", "model's score"]])
def test_the_name_of_the_models_score_differs_from_all_columns(columns: list[str]) -> None:
    assert choose_score_name(columns) not in columns


def test_the_report_shows_both_scores() -> None:
    random = np.random.default_rng(0)
    probability = random.uniform(size=ROWS)
    before = pd.DataFrame({"score": random.uniform(300, 500, ROWS)})
    after = pd.DataFrame({"score": random.uniform(900, 989, ROWS)})
    reference = Reference("a", before, scored=ScoredRows(probability, (probability > 0.5).astype(float)))
    sides = Sides(reference, Current("b", after, None, None, probability), None)
    drifts = {
        metric["config"]["column"]: metric["value"]
        for metric in build_snapshot(sides, judge(sides, Monitoring())).dict()["metrics"]
        if "column" in metric["config"]
    }
    assert drifts == {"score": 1.0, "model's score": 0.0}


@pytest.mark.parametrize("tests", ["sized", "evidently"])
@pytest.mark.parametrize(
    "values",
    [[True, False], pd.array([True, None], dtype="boolean"), [1e308, 1e308], [-1e308, 1e308], [2.0**63, 2.0**63]],
)
def test_a_column_that_cannot_be_drawn_does_not_stop_the_report(values: Any, tests: str) -> None:
    before = pd.DataFrame({"a": np.arange(ROWS, dtype=float), "b": np.arange(ROWS)})
    after = before.copy()
    after["b"] = pd.concat([pd.Series(values)] * (ROWS // 2), ignore_index=True)
    sides = Sides(Reference("a", before), Current("b", after, None, None), None)
    page = build_snapshot(sides, judge(sides, Monitoring())) if tests == "sized" else compare_by_evidently(sides)[0]
    assert "a" in [metric["config"].get("column") for metric in page.dict()["metrics"]]

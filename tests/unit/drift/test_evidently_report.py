"""Evidently's page shows the model's own score beside an input column that is called `score` too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from drift.compare.evidently_report import build_snapshot, choose_score_name, compare_by_evidently
from drift.compare.inputs import Current, Reference, Sides
from drift.compare.performance import ScoredRows
from drift.compare.signals import judge
from stepkit.settings.drift import Monitoring

ROWS = 300


@pytest.mark.parametrize("columns", [["AGE"], ["score"], ["score", "model's score"]])
def test_the_models_score_has_a_name_that_no_column_has(columns: list[str]) -> None:
    assert choose_score_name(columns) not in columns


def test_the_page_shows_both_scores() -> None:
    random = np.random.default_rng(0)
    probability = random.uniform(size=ROWS)
    before = pd.DataFrame({"score": random.uniform(300, 500, ROWS)})
    now = pd.DataFrame({"score": random.uniform(900, 989, ROWS)})
    reference = Reference("a", before, scored=ScoredRows(probability, (probability > 0.5).astype(float)))
    sides = Sides(reference, Current("b", now, None, None, probability), None)
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
def test_a_column_that_cannot_be_drawn_does_not_stop_the_page(values: Any, tests: str) -> None:
    before = pd.DataFrame({"a": np.arange(ROWS, dtype=float), "b": np.arange(ROWS)})
    now = before.copy()
    now["b"] = pd.concat([pd.Series(values)] * (ROWS // 2), ignore_index=True)
    sides = Sides(Reference("a", before), Current("b", now, None, None), None)
    page = build_snapshot(sides, judge(sides, Monitoring())) if tests == "sized" else compare_by_evidently(sides)[0]
    assert "a" in [metric["config"].get("column") for metric in page.dict()["metrics"]]

"""Evidently's page shows the model's own score beside an input column that is called `score` too."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from drift.judge import judge
from drift.report import page_of, score_name
from drift.sides import Current, Reference, Scored, Sides
from stepkit.monitoring import Monitoring

ROWS = 300


@pytest.mark.parametrize("columns", [["AGE"], ["score"], ["score", "model's score"]])
def test_the_models_score_has_a_name_that_no_column_has(columns: list[str]) -> None:
    assert score_name(columns) not in columns


def test_the_page_shows_both_scores() -> None:
    random = np.random.default_rng(0)
    probability = random.uniform(size=ROWS)
    before = pd.DataFrame({"score": random.uniform(300, 500, ROWS)})
    now = pd.DataFrame({"score": random.uniform(900, 989, ROWS)})
    reference = Reference("a", before, scored=Scored(probability, (probability > 0.5).astype(float)))
    sides = Sides(reference, Current("b", now, None, None, probability), None)
    drifts = {
        metric["config"]["column"]: metric["value"]
        for metric in page_of(sides, judge(sides, Monitoring())).dict()["metrics"]
        if "column" in metric["config"]
    }
    assert drifts == {"score": 1.0, "model's score": 0.0}

"""Stability indices of a window: alarms, reasons, the page of all windows, and windows of earlier releases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Metric, Run, RunData, RunInfo, RunTag

from drift import history
from drift.compare.inputs import Current, Reference, Sides
from drift.compare.performance import ScoredRows
from drift.compare.signals import Judgement, judge
from drift.page import render_page
from drift.run import list_metrics
from stepkit.settings.drift import QUALITY_SIGNALS, STABILITY_SIGNALS, Monitoring

ROWS, WINDOW = 20_000, 2_000


def make_clients(rows: int, seed: int, age: float = 40.0) -> pd.DataFrame:
    """Return clients with an amount, a code and a column with one value."""
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "AGE": random.normal(age, 10, rows),
            "SEX": random.choice(["f", "m"], rows),
            "BANK": "one",
        }
    )


def judge_window(rows: pd.DataFrame, score: float = 0.3, before: int = ROWS, **settings: Any) -> Judgement:
    """Return the judgement of a window whose scores have this mean."""
    random = np.random.default_rng(8)
    scored = ScoredRows(random.beta(3, 7, before), random.binomial(1, 0.3, before).astype(float))
    probability = random.beta(10 * score, 10 * (1 - score), len(rows))
    reference = Reference("a", make_clients(before, 0), scored=scored)
    return judge(Sides(reference, Current("b", rows, None, None, probability), None), Monitoring(**settings))


def test_a_window_of_the_same_population_does_not_alarm() -> None:
    judgement = judge_window(make_clients(WINDOW, 1))
    for name in STABILITY_SIGNALS:
        signal = judgement.signals[name]
        assert 0 <= signal["value"] < signal["threshold"]
        assert not signal["alarm"]
        assert signal["convention"] == [0.1, 0.25]


def test_an_older_population_alarms_and_names_the_column() -> None:
    judgement = judge_window(make_clients(WINDOW, 1, age=45))
    signal = judgement.signals["csi"]
    assert signal["alarm"]
    assert signal["columns"] == ["AGE"]
    assert signal["value"] == pytest.approx(0.25, abs=0.05)  # (5 / 10)^2, the index of two normal distributions
    assert not judgement.signals["psi_score"]["alarm"]


def test_other_scores_alarm() -> None:
    judgement = judge_window(make_clients(WINDOW, 1), score=0.4)
    assert judgement.signals["psi_score"]["alarm"]
    assert not judgement.signals["csi"]["alarm"]


def test_the_threshold_falls_with_the_rows_until_min_psi() -> None:
    thresholds = [judge_window(make_clients(rows, 1)).signals["csi"]["threshold"] for rows in (200, 600, 20_000)]
    assert thresholds == sorted(thresholds, reverse=True)
    assert thresholds[0] > 0.1
    assert thresholds[-1] == 0.05
    assert judge_window(make_clients(20_000, 1), min_psi=0).signals["csi"]["threshold"] < 0.01


def test_many_rows_do_not_alarm_on_a_difference_that_is_too_small_to_matter() -> None:
    rows = make_clients(30_000, 1, age=41)
    assert not judge_window(rows).signals["csi"]["alarm"]
    assert judge_window(rows, min_psi=0).signals["csi"]["alarm"]


def test_the_other_tests_keep_their_number_and_their_level() -> None:
    """Three columns, score and label, three times missing: as before these signals existed."""
    assert judge_window(make_clients(WINDOW, 1)).details["tests"] == 3 + 2 + 3


def test_neither_index_alerts_or_retrains_by_default() -> None:
    settings = Monitoring()
    assert not {*STABILITY_SIGNALS} & {*settings.alert_signals, *settings.retrain_signals}
    assert {*QUALITY_SIGNALS} < {*settings.alert_signals}
    assert Monitoring(alert_signals="psi_score,csi").alert_signals == [*STABILITY_SIGNALS]


@pytest.mark.parametrize(
    ("name", "values"), [("SEX", "diverse"), ("SEX", None), ("AGE", np.nan), ("AGE", np.inf), ("BANK", "two")]
)
def test_a_column_with_unseen_missing_or_infinite_values_only_alarms(name: str, values: Any) -> None:
    rows = make_clients(WINDOW, 1)
    rows[name] = pd.Series([values] * WINDOW, dtype=rows[name].dtype)
    signal = judge_window(rows).signals["csi"]
    assert signal["alarm"]
    assert signal["columns"] == [name]


def test_a_window_of_ten_rows_has_no_index_but_a_reason() -> None:
    judgement = judge_window(make_clients(10, 1))
    assert "psi_score" not in judgement.signals
    indices = {index["column"]: index for index in judgement.details["stability"]["columns"]}
    assert indices["AGE"]["value"] is None
    assert indices["AGE"]["reason"].startswith("too few rows")
    assert indices["BANK"]["value"] == 0
    assert judgement.details["stability"]["score"]["reason"].startswith("too few rows")


def test_files_without_a_model_have_an_index_per_column_only() -> None:
    sides = Sides(Reference("a", make_clients(ROWS, 0)), Current("b", make_clients(WINDOW, 1), None, None), None)
    judgement = judge(sides, Monitoring())
    assert "psi_score" not in judgement.signals
    assert not judgement.signals["csi"]["alarm"]
    assert judgement.details["stability"]["score"] is None


def make_window(number: int, **metrics: float) -> Run:
    """Return a finished run of drift with these metrics."""
    tags = {
        history.FROM: "", history.TO: f"2026-11-0{number}T00:00:00+00:00", history.ROWS: "2000",
        history.MODEL_NAME: "m", history.MODEL_VERSION: "1", history.DECISION: "nothing", history.REASON: "no alarms",
        history.STATUS: "ok",
    }  # fmt: skip
    logged = {"rows": 2000.0, "labelled": 0.0, "drift_share": 0.0, "alarm.drift_share": 0.0, **metrics}
    data = RunData(
        [Metric(name, value, 0, 0) for name, value in logged.items()], [], [RunTag(*tag) for tag in tags.items()]
    )
    return Run(RunInfo(f"{number:032}", "0", "someone", "FINISHED", 0, 1, "active"), data)


NEW = {
    f"{prefix}.{name}": value
    for name in STABILITY_SIGNALS
    for prefix, value in (("signal", 0.02), ("threshold", 0.05), ("alarm", 0.0))
}


def test_the_page_of_windows_of_an_earlier_release_leaves_the_index_out() -> None:
    old = [make_window(1), make_window(2)]
    assert "Stability index" not in render_page("m", old, None)
    page = render_page("m", [*old, make_window(3, **NEW)], None)
    assert page.index("Performance" if "Performance" in page else "Drift per column") < page.index("Stability index")


def test_the_metrics_of_a_run_name_every_index_and_those_of_an_earlier_release_none() -> None:
    judgement = judge_window(make_clients(WINDOW, 1))
    result = {"window": {"rows": 1, "labelled": 0}, "columns": [], "drifted": [], "drift_share": 0.0}
    metrics = list_metrics({**result, "signals": judgement.signals, "details": judgement.details})
    assert {"signal.psi_score", "threshold.psi_score", "alarm.csi", "csi.AGE", "csi.SEX", "csi.BANK"} <= {*metrics}
    assert list_metrics({**result, "signals": {}, "details": {}}) == {"rows": 1, "labelled": 0}

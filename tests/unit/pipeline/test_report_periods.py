"""pipeline.report: the periods of the test split, the dates of the parts, and classes that are lists."""

from __future__ import annotations

import json
from typing import Any

from mlflow.entities import Metric, Run, RunData, RunInfo, RunTag

from pipeline.report.blocks import WARN, Section, Table, Text
from pipeline.report.schemas import Evaluation
from pipeline.report.sections.data import list_data_facts, make_data_section
from pipeline.report.sections.metrics import get_class_names
from pipeline.report.sections.periods import make_periods_section
from tests.support.reports import make_result

GOOD_MONTH = {
    "period": "2015-01", "first": "2015-01-01", "last": "2015-01-31", "rows": 1200, "positives": 240,
    "default_rate": 0.2, "mean_probability": 0.25, "excess": {"value": 0.05, "low": 0.02, "high": 0.08},
    "roc_auc": {"value": 0.7, "low": 0.66, "high": 0.74}, "calibration_error": 0.06, "reason": None,
}  # fmt: skip
THIN_MONTH = {
    **GOOD_MONTH, "period": "2015-02", "rows": 1, "excess": {"value": 0.25, "low": None, "high": None},
    "roc_auc": None, "calibration_error": None, "reason": "only class 0",
}  # fmt: skip


def make_section(*periods: dict[str, Any], undated: int = 0) -> Section:
    content = {"column": "issue_d", "unit": "month", "undated": undated, "periods": periods}
    return make_periods_section(make_result(evaluation=Evaluation.model_validate({"metrics": {}, "periods": content})))


def list_texts(section: Section) -> list[str]:
    return [block.text for block in section.blocks if isinstance(block, Text)]


def test_each_period_has_a_row_and_one_without_an_auc_has_the_reason() -> None:
    section = make_section(GOOD_MONTH, THIN_MONTH, undated=3)
    table = next(block for block in section.blocks if isinstance(block, Table))
    good, thin = table.rows
    assert [cell.text for cell in good] == ["2015-01", "1,200", "20.00%", "25.00%", "+5.00%", "0.7000", "0.0600"]
    assert (good[4].kind, good[4].note, good[5].note) == (WARN, "+2.00% to +8.00%", "0.6600 to 0.7400")
    assert (thin[4].text, thin[4].note, thin[5].text, thin[5].note) == ("+25.00%", "", "not computed", "only class 0")
    range_text, about = list_texts(section)
    assert range_text == "ROC AUC per month: 0.700 (2015-01) to 0.700 (2015-01). Not computed for 1 period."
    assert "3 rows without a date belong to no period." in about


def test_periods_that_are_all_too_thin_are_shown_and_an_evaluation_without_periods_has_no_section() -> None:
    assert list_texts(make_section(THIN_MONTH))[0] == "No month has enough rows of both classes for a ROC AUC."
    assert make_periods_section(make_result(evaluation=Evaluation(metrics={}))).blocks == []
    assert make_periods_section(make_result()).blocks == []


def make_step(metrics: dict[str, float], tags: dict[str, str]) -> Run:
    info = RunInfo("1f", "0", "someone", "FINISHED", 0, 1, "active")
    return Run(
        info, RunData([Metric(*item, 0, 0) for item in metrics.items()], [], [RunTag(*tag) for tag in tags.items()])
    )


def test_the_data_section_has_the_dates_of_the_parts_and_the_rows_left_out() -> None:
    part = {"rows": 1000, "undated": 0, "first": "2015-01-01", "last": "2015-06-01"}
    segregate = {"training and validation": {**part, "undated": 7}, "test": {**part, "first": None, "last": None}}
    runs = {
        "random_forest": make_step({}, {"split_dates": json.dumps({"training": part, "validation": part})}),
        "segregate": make_step({}, {"split_dates": json.dumps(segregate)}),
        "preprocess": make_step({"undated_rows": 7}, {"other_class_rows": "2 rows: Current (2x)"}),
    }
    config = {"data": {"positive": ["Off", "Late", "Lost"], "negative": ["Paid"], "undated": "train"}}
    result = make_result(runs=runs, config=config, checks=[], ks=[])
    assert get_class_names(result) == ("Paid", "Off or 2 more")
    facts = dict(list_data_facts(result))
    assert (facts["class 1"], facts["class 0"]) == ("Off, Late, Lost", "Paid")
    assert facts["left out, in neither class"] == "2 rows: Current (2x)"
    assert facts["rows without a date"] == "7 (used for training)"
    tables = [block for block in make_data_section(result).blocks if isinstance(block, Table)]
    (dates,) = (table for table in tables if table.caption.startswith("Dates of the parts"))
    assert [[cell.text for cell in row] for row in dates.rows] == [
        ["training", "1,000", "2015-01-01", "2015-06-01", "0"],
        ["validation", "1,000", "2015-01-01", "2015-06-01", "0"],
        ["test", "1,000", "", "", "0"],
    ]
    del runs["random_forest"]
    tables = [block for block in make_data_section(result).blocks if isinstance(block, Table)]
    assert [row[0].text for row in tables[-1].rows] == ["training and validation", "test"]

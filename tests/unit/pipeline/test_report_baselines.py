"""Baselines in a report: figures and a sentence in words, from evaluation.json of this release and of earlier ones."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.report.blocks import BAD, GOOD, WARN, Table, Text
from pipeline.report.gather import PipelineResult
from pipeline.report.schemas import Evaluation
from pipeline.report.sections.baselines import describe_baselines, make_baselines_section
from pipeline.report.sections.data import make_data_section
from tests.support.reports import make_result

AUC = {"value": 0.77, "low": 0.76, "high": 0.78}


def make_evaluated(baselines: dict[str, Any] | None) -> PipelineResult:
    content = {"metrics": {"roc_auc": AUC}, **({"baselines": baselines} if baselines else {})}
    return make_result(evaluation=Evaluation.model_validate(content))


def make_baselines(value: float, low: float, high: float) -> dict[str, Any]:
    """Return the key `baselines` of evaluation.json with this difference."""
    result = {
        "label": "the column PAY_0 alone",
        "roc_auc": {"value": 0.75, "low": 0.74, "high": 0.76},
        "gini": {"value": 0.5, "low": 0.48, "high": 0.52},
        "difference": {"value": value, "low": low, "high": high},
    }
    return {"rows": 20981, "results": [result], "suspicions": []}


@pytest.mark.parametrize(
    ("difference", "words", "kind", "cell"),
    [
        ((0.02, 0.01, 0.03), "The model is better than both baselines.", GOOD, GOOD),
        ((0.02, -0.01, 0.05), "The model is not shown to be better than the column PAY_0 alone.", WARN, ""),
        ((-0.02, -0.03, -0.01), "The model is not shown to be better than the column PAY_0 alone.", WARN, BAD),
    ],
)
def test_the_section_states_if_the_model_is_better(
    difference: tuple[float, float, float], words: str, kind: str, cell: str
) -> None:
    result = make_evaluated(make_baselines(*difference))
    summary, method, table = make_baselines_section(result).blocks
    assert describe_baselines(result) == words
    assert isinstance(summary, Text)
    assert isinstance(method, Text)
    assert isinstance(table, Table)
    assert (summary.text, summary.kind) == (words, kind)
    assert "20,981 training rows" in method.text
    assert [cell.text for cell in table.rows[0]] == [
        "this model", "0.7700", "0.7600 to 0.7800", "0.5400", "0.5200 to 0.5600", "", ""
    ]  # fmt: skip
    assert [cell.text for cell in table.rows[1]][:5] == [
        "the column PAY_0 alone", "0.7500", "0.7400 to 0.7600", "0.5000", "0.4800 to 0.5200"
    ]  # fmt: skip
    assert table.rows[1][5].kind == cell


def test_a_report_of_an_earlier_release_has_no_section() -> None:
    assert make_baselines_section(make_evaluated(None)).blocks == []
    assert make_baselines_section(make_result()).blocks == []
    assert describe_baselines(make_evaluated(None)) == ""


def test_a_model_without_baselines_states_the_reason() -> None:
    missing = {"rows": 0, "results": [], "reason_not_compared": "the model's run has no baselines.json"}
    (block,) = make_baselines_section(make_evaluated(missing)).blocks
    assert isinstance(block, Text)
    assert block.text == "Not compared: the model's run has no baselines.json."


def test_the_data_section_lists_columns_with_possible_leakage() -> None:
    rows = [{"column": "share", "auc": "0.9901", "checked": "False"}, {"column": "b", "auc": "1.0", "checked": "True"}]
    blocks = make_data_section(make_result(leakage=rows)).blocks
    (table,) = [block for block in blocks if isinstance(block, Table) and "leakage" in block.caption]
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["share", "0.9901", "not checked"],
        ["b", "1.0000", "checked"],
    ]

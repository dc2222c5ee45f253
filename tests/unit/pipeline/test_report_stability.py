"""Sections of a report on the information value of columns and on stability."""

from __future__ import annotations

from typing import Any

from pipeline.report.blocks import Figure, Section, Table, Text
from pipeline.report.schemas import Evaluation
from pipeline.report.sections.information_value import (
    DETAILED_COLUMNS,
    describe_highest_values,
    make_information_section,
)
from pipeline.report.sections.stability import describe_stability, make_stability_section
from tests.support.reports import make_result

INDEX = {"value": 0.0012, "threshold": 0.0041, "bins": 10, "reason": ""}
STABILITY = {
    "reason": "",
    "level": 0.95,
    "training_rows": 20_975,
    "rows": 8_990,
    "psi_score": INDEX,
    "csi": [{"column": "AGE", "label": "Age", **INDEX}],
}


def make_section(stability: dict[str, Any] | None) -> Section:
    content = {"metrics": {}} if stability is None else {"metrics": {}, "stability": stability}
    return make_stability_section(make_result(evaluation=Evaluation.model_validate(content)))


def list_texts(section: Section) -> list[str]:
    return [block.text for block in section.blocks if isinstance(block, Text)]


def list_rows(section: Section) -> list[list[str]]:
    return [[cell.text for cell in row] for block in section.blocks if isinstance(block, Table) for row in block.rows]


def test_an_evaluation_of_an_earlier_release_has_no_section() -> None:
    assert make_section(None).blocks == []
    assert make_stability_section(make_result()).blocks == []


def test_the_section_names_the_threshold_next_to_the_custom() -> None:
    section = make_section(STABILITY)
    first, second = list_texts(section)
    assert first.startswith("Population stability index of the score: 0.0012 (stable by custom; threshold 0.0041).")
    assert "0.1" in second
    assert "Siddiqi" in second
    assert "20,975 training rows against 8,990 test rows" in second
    assert list_rows(section)[1] == ["Age", "0.0012", "0.0041", "stable", "10", "no"]


def test_a_column_above_its_threshold_is_counted_and_a_large_change_is_marked() -> None:
    small, large = {**INDEX, "value": 0.01}, {**INDEX, "value": 0.3}
    for index, kind, custom in ((small, "", "stable"), (large, "warn", "large change")):
        section = make_section({**STABILITY, "csi": [{"column": "AGE", "label": "Age", **index}]})
        assert "Columns above their threshold: 1 of 1" in list_texts(section)[0]
        assert section.blocks[0].kind == kind  # type: ignore[union-attr]  # a text
        assert list_rows(section)[1][-3:] == [custom, "10", "yes"]


def test_a_missing_figure_has_its_reason() -> None:
    assert list_texts(make_section({"reason": "no profile"})) == ["No stability index: no profile."]
    missing = {"value": None, "threshold": None, "bins": 1, "reason": "too few rows"}
    section = make_section({**STABILITY, "psi_score": missing})
    assert "not computed (too few rows)" in list_texts(section)[0]
    assert list_rows(section)[0][1] == "not computed"


def make_bin(column: str, value: float) -> dict[str, str]:
    return {
        "column": column, "bin": "up to 30,000", "rows": "2847", "defaults": "1026", "default_rate": "0.3604",
        "woe": "-0.6846", "iv": "0.075", "iv_column": str(value), "iv_by_chance": "0.0047",
    }  # fmt: skip


def test_a_run_of_an_earlier_release_has_no_information_values() -> None:
    assert make_information_section(make_result(information=[], pictures={})).blocks == []


def test_the_information_values_have_their_customary_names_unless_chance_explains_them() -> None:
    rows = [make_bin(f"c{value}", value) for value in (0.6, 0.4, 0.2, 0.05, 0.01, 0.001)]
    section = make_information_section(make_result(information=rows, pictures={"iv.png": "iVBO"}))
    custom = [row[3] for row in list_rows(section)[: len(rows)]]
    assert custom == ["suspiciously strong", "strong", "medium", "weak", "not predictive", "not above chance"]
    assert ["c0.6", "up to 30,000", "2,847", "1,026", "36.0%", "-0.6846", "0.0750"] in list_rows(section)
    assert list_texts(section)[0] == (
        "Highest information value: c0.6, 0.6000 (suspiciously strong). Above chance: 5 of 6 columns."
    )
    assert [block.png for block in section.blocks if isinstance(block, Figure)] == ["iVBO"]


def test_the_bins_of_the_first_columns_are_shown_and_the_others_counted() -> None:
    rows = [make_bin(f"c{number}", 0.2) for number in range(DETAILED_COLUMNS + 3)]
    section = make_information_section(make_result(information=rows, pictures={}))
    values, bins = [block for block in section.blocks if isinstance(block, Table)]
    assert [len(values.rows), len(bins.rows)] == [DETAILED_COLUMNS + 3, DETAILED_COLUMNS]
    assert "3 further columns" in list_texts(section)[-1]


def test_the_model_card_names_the_highest_values_and_the_index_of_the_score() -> None:
    rows = [make_bin("PAY_0", 0.8891), make_bin("PAY_0", 0.8891), make_bin("AGE", 0.02)]
    evaluation = Evaluation.model_validate({"metrics": {}, "stability": STABILITY})
    result = make_result(information=rows, evaluation=evaluation)
    assert describe_highest_values(result) == "highest on the training split: PAY_0 0.8891, AGE 0.0200"
    assert describe_stability(result).endswith(": 0.0012 (stable by custom; threshold 0.0041)")
    assert describe_highest_values(make_result(information=[])) == describe_stability(make_result()) == ""

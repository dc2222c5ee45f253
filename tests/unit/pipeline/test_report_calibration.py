"""Section on the calibration, and the rules that the champion fails, with files of this and of earlier releases."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.report.blocks import Figure, Section, Text
from pipeline.report.schemas import Evaluation, Rule, Verdict
from pipeline.report.sections.calibration import describe_calibration, make_calibration_section
from pipeline.report.sections.gate import make_gate_section
from tests.support.reports import make_result

EXCESS = {"value": 0.001, "low": -0.004, "high": 0.006}
CALIBRATION = {"error": 0.012, "expected": 0.011, "excess": EXCESS, "rows": 9000}


def list_texts(section: Section) -> list[str]:
    return [block.text for block in section.blocks if isinstance(block, Text)]


def make_section(**evaluation: Any) -> Section:
    evaluated = Evaluation.model_validate({"metrics": {"brier_score": {"value": 0.136}}, **evaluation})
    return make_calibration_section(make_result(evaluation=evaluated, pictures={"calibration.png": "iVBO"}))


def test_the_section_starts_with_the_error_and_the_part_that_is_not_chance() -> None:
    finding, _ = list_texts(make_section(calibration=CALIBRATION))
    assert finding.endswith(
        "expected calibration error 0.0120 on 9,000 rows; chance explains 0.0110; excess 0.0010 (-0.0040 to 0.0060)."
    )


def test_an_evaluation_of_an_earlier_release_has_only_the_plot() -> None:
    section = make_section()
    assert list_texts(section) == []
    assert [type(block) for block in section.blocks] == [Figure]


@pytest.mark.parametrize(
    ("tag", "words"), [("sigmoid", "sigmoid (Platt"), ("isotonic", "isotonic"), ("none", "none:"), ("", "none:")]
)
def test_the_calibration_has_words(tag: str, words: str) -> None:
    assert describe_calibration(tag).startswith(words)


def test_the_section_on_the_gate_names_the_rules_that_the_champion_fails() -> None:
    rule = Rule(name="calibration_error", value=0.15, threshold=0.05, passed=False, reason="too far off")
    verdict = Verdict(passed=True, outcome="passed", rules=[], champion_failed=[rule])
    assert list_texts(make_gate_section(make_result(verdict=verdict)))[-1].endswith(
        "fails: calibration_error (too far off)."
    )

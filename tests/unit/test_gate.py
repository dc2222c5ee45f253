"""evaluate.gate: metrics in, verdict out."""

from __future__ import annotations

import json

import pytest

from evaluate.gate import judge


def test_the_first_model_passes_because_there_is_none_to_beat() -> None:
    verdict = judge({"roc_auc": 0.51}, None)
    assert verdict.passed
    assert verdict.rules[0].threshold is None
    assert verdict.rules[0].reason == "AUC 0.5100; nothing to compare with: there is no champion yet"


@pytest.mark.parametrize(
    ("ours", "passes", "words"), [(0.78, True, "at least"), (0.77, True, "at least"), (0.7699, False, "below")]
)
def test_a_model_passes_if_it_is_at_least_as_good_as_the_champion(ours: float, passes: bool, words: str) -> None:
    verdict = judge({"roc_auc": ours}, {"roc_auc": 0.77})
    assert verdict.passed is passes
    assert [rule.passed for rule in verdict.rules] == [passes]
    assert verdict.rules[0].reason == f"AUC {ours:.4f} is {words} the champion's 0.7700"


def test_an_auc_that_is_not_a_number_does_not_pass_against_a_champion() -> None:
    assert not judge({"roc_auc": float("nan")}, {"roc_auc": 0.77}).passed


def test_a_verdict_can_be_written_as_json_and_holds_every_rule() -> None:
    written = json.loads(json.dumps(judge({"roc_auc": 0.7}, {"roc_auc": 0.6}).as_dict()))
    assert written["passed"] is True
    assert written["rules"] == [
        {
            "name": "roc_auc",
            "value": 0.7,
            "threshold": 0.6,
            "passed": True,
            "reason": "AUC 0.7000 is at least the champion's 0.6000",
        }
    ]


def test_a_metric_that_was_not_computed_never_passes() -> None:
    assert not judge({"roc_auc": float("nan")}, None).passed
    assert not judge({"roc_auc": float("nan")}, {"roc_auc": 0.7}).passed

"""evaluate.gate: the verdict for given measurements, rule by rule, and its error rate for equally good models."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evaluate.bootstrap import Bootstrap
from evaluate.calibration import Calibration
from evaluate.gate import judge_model
from evaluate.slices import Slice
from evaluate.verdict import BETTER, Comparison, Facts, Measured, Verdict
from stepkit.model.metrics import Scored
from stepkit.model.statistics import Interval
from stepkit.settings.evaluate import Costs, Evaluation, Gate
from stepkit.store.champion import OtherDataSet

FOUND = {"roc_auc": 0.77, "log_loss": 0.5, "calibration_error": 0.1}
FACTS = Facts(onnx_difference=1e-7, size_mb=20, latency_ms=3)
CALIBRATED = Calibration(error=0.02, expected=0.011, excess=Interval(0.009, 0.004, 0.014), rows=9000)
UNCALIBRATED = Calibration(error=0.165, expected=0.011, excess=Interval(0.154, 0.146, 0.162), rows=9000)
UNCALIBRATED_IN_WORDS = (
    "expected calibration error 0.1650 on 9,000 rows, where chance explains 0.0110: the excess 0.1540 "
    "(95% interval 0.1460 to 0.1620) is above the allowed 0.05"
)
FIRST = Comparison(reason_not_needed="no champion yet")


def judge(
    metrics: dict[str, float] | None = None,
    slices: list[Slice] | None = None,
    facts: Facts = FACTS,
    comparison: Comparison = FIRST,
    calibration: Calibration | None = CALIBRATED,
    **gate: Any,
) -> Verdict:
    settings = Evaluation(gate=Gate.model_validate(gate))
    return judge_model(Measured({**FOUND, **(metrics or {})}, calibration, slices or [], facts), comparison, settings)


def make_comparison(value: float, low: float, high: float, metric: str = "roc_auc") -> Comparison:
    return Comparison("3", differences={metric: Interval(value, low, high)})


def make_slice(low: float, high: float, rows: int = 100, positives: int = 20, label: str = "Sex: male") -> Slice:
    auc = Interval((low + high) / 2, low, high)
    return Slice("SEX", "1", label, rows, positives, {"roc_auc": auc})


def list_failed(verdict: Verdict) -> list[str]:
    return [rule.name for rule in verdict.failed]


def test_the_first_model_passes_if_it_reaches_the_floors() -> None:
    assert (judge().passed, judge().outcome, judge().reasons) == (True, "passed", "")


@pytest.mark.parametrize(
    ("low", "high", "outcome", "rules", "words"),
    [
        (0.001, 0.007, "passed", [], "better"),
        (0.0, 0.006, "as_good", [BETTER], "not shown to be better"),
        (-0.009, 0.0, "as_good", [BETTER], "not shown to be better"),
        (-0.009, -0.001, "as_good", [BETTER], "worse, but not by more than the allowed 0.01"),
        (-0.011, -0.001, "rejected", ["not_worse_than_champion", BETTER], "worse"),
    ],
)
def test_the_paired_interval_decides(low: float, high: float, outcome: str, rules: list[str], words: str) -> None:
    judged = judge(comparison=make_comparison((low + high) / 2, low, high))
    assert (judged.outcome, list_failed(judged), judged.passed) == (outcome, rules, outcome == "passed")
    assert judged.rules[-1].reason.endswith(f": {words}")


def test_an_equal_model_takes_over_where_better_is_not_required() -> None:
    equal = make_comparison(0.0, 0.0, 0.0)
    assert not judge(comparison=equal).passed
    assert judge(comparison=equal, require_better=False).passed


def test_of_a_loss_less_is_better() -> None:
    better = make_comparison(-0.02, -0.03, -0.01, "log_loss")
    assert judge(comparison=better, metric="log_loss").passed
    worse = make_comparison(0.02, 0.01, 0.03, "log_loss")
    assert list_failed(judge(comparison=worse, metric="log_loss")) == ["not_worse_than_champion", BETTER]


@pytest.mark.parametrize(
    ("comparison", "reasons"),
    [
        (
            make_comparison(-0.0065, -0.0136, 0.0007),
            "ROC AUC -0.0065 (95% interval -0.0136 to +0.0007) compared with the champion (version 3): "
            "may be worse by more than the allowed 0.01",
        ),
        (
            Comparison("3", reason_not_compared="its artifact is gone"),
            "not compared with the champion (version 3): its artifact is gone",
        ),
        (
            Comparison("3", differences={"roc_auc": Interval(0, 0, 0)}, unknown="its run is gone"),
            "ROC AUC +0.0000 (95% interval +0.0000 to +0.0000) compared with the champion (version 3), which may have "
            "been trained on some of these rows (its run is gone): not shown to be better",
        ),
    ],
    ids=["worse", "not compared", "unknown rows"],
)
def test_a_comparison_is_described_in_words(comparison: Comparison, reasons: str) -> None:
    judged = judge(comparison=comparison)
    assert (judged.passed, judged.reasons) == (False, reasons)


@pytest.mark.parametrize(("why", "outcome"), [("", "rejected"), ("no row of it is real", "passed")])
def test_a_champion_of_another_data_set_stays_unless_there_is_a_reason(why: str, outcome: str) -> None:
    words = "the champion (version 3) is of another data set (ours, not sample)"
    judged = judge(comparison=Comparison("3", reason_not_needed=words, other_data_set=OtherDataSet(words, why)))
    assert (judged.outcome, judged.rules[-1].name) == (outcome, "data_set")
    assert judged.rules[-1].reason.startswith(words)
    assert (why or "register.replace_data_set=true") in judged.rules[-1].reason


@pytest.mark.parametrize(
    ("gate", "rule"),
    [
        ({"floors": {"roc_auc": 0.78}}, "roc_auc"),
        ({"floors": {"log_loss": 0.49}}, "log_loss"),
        ({"floors": {"f1": 0.1}}, "f1"),  # not measured
        ({"calibration_error": 0.003}, "calibration_error"),
        ({"floors": {"calibration_error": 0.09}}, "calibration_error"),
        ({"onnx_difference": 1e-8}, "onnx_difference"),
        ({"size_mb": 19}, "size_mb"),
        ({"latency_ms": 2}, "latency_ms"),
    ],
)
def test_each_rule_rejects_what_breaks_it(gate: dict[str, Any], rule: str) -> None:
    judged = judge(**gate)
    assert (judged.outcome, list_failed(judged)) == ("rejected", [rule])


@pytest.mark.parametrize("name", ["roc_auc", "calibration_error", "onnx_difference", "size_mb", "latency_ms"])
def test_what_was_not_computed_is_a_failure_and_not_a_pass(name: str) -> None:
    facts = Facts(**{**vars(FACTS), name: math.nan}) if name in vars(FACTS) else FACTS
    calibration = None if name == "calibration_error" else CALIBRATED
    judged = judge({name: math.nan}, facts=facts, calibration=calibration)
    assert list_failed(judged) == [name]
    assert "not computed" in judged.reasons


@pytest.mark.parametrize("name", ["calibration_error", "worst_slice", "onnx_difference", "size_mb", "latency_ms"])
def test_null_switches_a_rule_off(name: str) -> None:
    slices = [make_slice(0.7, 0.8)]
    null: dict[str, Any] = {name: None}
    on, off = judge(slices=slices), judge(slices=slices, **null)
    assert {rule.name for rule in on.rules} - {rule.name for rule in off.rules} == {name}


def test_a_slice_fails_only_if_its_whole_interval_lies_below_the_floor() -> None:
    assert judge(slices=[make_slice(0.5, 0.61)]).passed
    judged = judge(slices=[make_slice(0.5, 0.59, label="Sex: female"), make_slice(0.2, 0.7)])
    assert list_failed(judged) == ["worst_slice"]
    assert judged.reasons.startswith("worst of 2 slices, Sex: female: ROC AUC 0.5450")
    assert "below the required 0.6" in judged.reasons


def test_a_slice_too_small_to_be_judged_does_not_count() -> None:
    small, no_positives = make_slice(0.1, 0.2, rows=29), make_slice(math.nan, math.nan, positives=0)
    assert judge(slices=[small, no_positives, make_slice(0.7, 0.8)]).passed
    assert list_failed(judge(slices=[small, no_positives])) == ["worst_slice"]


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.051, 0.07, "above the allowed 0.05"),
        (0.05, 0.07, "not shown to be above the allowed 0.05"),
        (-0.01, 0.05, "within the allowed 0.05"),
    ],
)
def test_the_calibration_fails_only_if_the_whole_interval_of_the_excess_is_above_the_limit(
    low: float, high: float, words: str
) -> None:
    middle = (low + high) / 2
    judged = judge(calibration=Calibration(middle + 0.06, 0.06, Interval(middle, low, high), 300))
    rule = next(rule for rule in judged.rules if rule.name == "calibration_error")
    assert (rule.passed, rule.value, rule.threshold) == (low <= 0.05, middle, 0.05)
    assert rule.reason.endswith(words)


def make_failing_champion(value: float, low: float, high: float, **more: Any) -> Comparison:
    """Return a comparison with a champion that is not calibrated."""
    return replace(make_comparison(value, low, high), champion=Measured(FOUND, UNCALIBRATED, facts=Facts()), **more)


def test_a_champion_that_fails_a_rule_gives_way_to_a_model_that_is_not_worse() -> None:
    judged = judge(comparison=make_failing_champion(0.001, -0.002, 0.004))
    assert (judged.outcome, judged.reasons) == ("passed", "")
    assert [rule.name for rule in judged.champion_failed] == ["calibration_error"]
    assert judged.rules[-1].reason == (
        "ROC AUC +0.0010 (95% interval -0.0020 to +0.0040) compared with the champion (version 3): not shown to be "
        f"better, but the champion fails the gate's rule calibration_error: {UNCALIBRATED_IN_WORDS}"
    )


def test_a_champion_that_fails_a_rule_stays_if_the_model_may_be_worse_or_fails_it_too() -> None:
    worse = judge(comparison=make_failing_champion(-0.005, -0.012, 0.002))
    assert (worse.outcome, list_failed(worse)) == ("rejected", ["not_worse_than_champion", BETTER])
    equal = judge(comparison=make_failing_champion(0.0, 0.0, 0.0), calibration=UNCALIBRATED)
    assert (equal.outcome, list_failed(equal)) == ("rejected", ["calibration_error"])


def test_without_a_margin_a_champion_that_fails_a_rule_stays_if_the_model_is_shown_to_be_worse() -> None:
    assert judge(comparison=make_failing_champion(-0.1, -0.3, 0.1), margin=None).passed
    assert not judge(comparison=make_failing_champion(-0.2, -0.3, -0.1), margin=None).passed


def test_a_rule_that_the_champion_was_not_measured_for_or_that_a_user_overruled_does_not_count() -> None:
    equal = make_comparison(0.0, 0.0, 0.0)
    unmeasured = Measured(FOUND, CALIBRATED, [make_slice(0.1, 0.2, rows=29)], Facts())
    assert judge(comparison=replace(equal, champion=unmeasured)).outcome == "as_good"
    overruled = make_failing_champion(0.0, 0.0, 0.0, overruled=frozenset({"calibration_error"}))
    assert judge(comparison=overruled).outcome == "as_good"


@pytest.mark.parametrize(
    ("champion", "rule"),
    [
        (Measured({**FOUND, "roc_auc": 0.59}, CALIBRATED), "roc_auc"),
        (Measured(FOUND, CALIBRATED, [make_slice(0.5, 0.59)]), "worst_slice"),
        (Measured(FOUND, CALIBRATED, facts=Facts(onnx_difference=1e-4)), "onnx_difference"),
        (Measured(FOUND, CALIBRATED, facts=Facts(size_mb=501)), "size_mb"),
    ],
)
def test_every_rule_for_a_model_alone_counts_for_the_champion(champion: Measured, rule: str) -> None:
    judged = judge(comparison=replace(make_comparison(0.0, 0.0, 0.0), champion=champion))
    assert (judged.passed, [failed.name for failed in judged.champion_failed]) == (True, [rule])


def test_a_verdict_can_be_written_as_json_and_holds_every_rule() -> None:
    written = json.loads(json.dumps(judge(comparison=make_comparison(0.0, 0.0, 0.0)).to_dict()))
    assert (written["passed"], written["outcome"]) == (False, "as_good")
    names = [
        "roc_auc",
        "calibration_error",
        "onnx_difference",
        "size_mb",
        "latency_ms",
        "not_worse_than_champion",
        BETTER,
    ]
    assert [rule["name"] for rule in written["rules"]] == names
    auc = {
        "name": "roc_auc",
        "value": 0.77,
        "threshold": 0.6,
        "passed": True,
        "reason": "ROC AUC 0.7700 (required: at least 0.6)",
    }
    assert written["rules"][0] == auc


PAIRS = 200


def count_promotions(gain: float, pairs: int = PAIRS) -> int:
    """Return the number of challengers that pass against an equally noisy champion, with `gain` as their advantage."""
    how, passed = Bootstrap(300, 1, 0.95, Costs()), 0
    for seed in range(pairs):
        random = np.random.default_rng(seed)
        labels = (random.random(1500) < 0.25).astype(int)
        common = random.normal(0, 0.8, 1500)
        models = []
        for separation in (1.0 + gain, 1.0):
            logits = common + random.normal(separation * labels, 0.5)
            probability = 1 / (1 + np.exp(-logits))
            models.append(Scored(labels, probability, (probability > 0.5).astype(int)))
        passed += judge(comparison=Comparison("1", differences=how.compute_differences(*models))).passed
    return passed


@pytest.mark.slow
def test_of_200_pairs_of_equally_good_models_at_most_5_percent_are_promoted_as_better() -> None:
    assert count_promotions(gain=0.0) <= PAIRS * 0.05
    assert count_promotions(gain=0.5, pairs=60) >= 60 * 0.95, "the gate promotes no better model"

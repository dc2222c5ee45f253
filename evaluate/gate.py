"""The decision whether a model may become champion: what was measured in, a verdict out, nothing read or written.

Every rule has a value, a threshold and an outcome in words. What could not be measured fails its rule: a gate that
lets through what it cannot see is none. A model passes if every rule holds. Of these the last one asks for more than
not being worse: the champion moves only for a model that the paired interval shows to be better, since each move
changes answers that people rely on. A model that fails this rule alone is *as good*: nothing is wrong with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from evaluate.slices import Slice, compared_by, worst_of
from stepkit.model.statistics import Interval
from stepkit.settings.evaluate import AS_GOOD, LOWER_IS_BETTER, PASSED, REJECTED, Evaluation, Gate

BETTER = "better_than_champion"


@dataclass(frozen=True)
class Rule:
    """One rule of the gate: what was found, what it was held against, and in words how that came out."""

    name: str
    value: float
    threshold: float | None
    passed: bool
    reason: str


@dataclass(frozen=True)
class Verdict:
    """Whether the model passes, and every rule that was looked at."""

    rules: list[Rule]

    @property
    def passed(self) -> bool:
        return all(rule.passed for rule in self.rules)

    @property
    def failed(self) -> list[Rule]:
        return [rule for rule in self.rules if not rule.passed]

    @property
    def outcome(self) -> str:
        names = [rule.name for rule in self.failed]
        return PASSED if not names else AS_GOOD if names == [BETTER] else REJECTED

    @property
    def reasons(self) -> str:
        """Why it does not pass, in words; that a rejected model is not better either goes without saying."""
        names = [rule.name for rule in self.failed]
        return "; ".join(rule.reason for rule in self.failed if rule.name != BETTER or names == [BETTER])

    def as_dict(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "outcome": self.outcome,
            "reasons": self.reasons,
            "rules": [asdict(rule) for rule in self.rules],
        }


@dataclass(frozen=True)
class Comparison:
    """What the champion was found to be worth on the same rows.

    Attributes:
        version: of the champion; "" if there is none.
        why_none: why there is nothing to compare with, in words: no champion, or one of another data set.
        why_not: why a comparison that is due could not be made, in words.
        differences: our metrics minus the champion's, with paired intervals, where it could be.
        unknown: why it is unknown which of the rows the champion was trained on, in words.
        other_data_set: that the champion is of another data set, in words; "" if it is not.
        why_replaceable: why it may give way all the same, in words.
    """

    version: str = ""
    why_none: str = ""
    why_not: str = ""
    differences: dict[str, Interval] | None = None
    unknown: str = ""
    other_data_set: str = ""
    why_replaceable: str = ""


@dataclass(frozen=True)
class Facts:
    """What is known of the model beside its answers; NaN for what was not measured.

    Attributes:
        onnx_difference: largest absolute difference of probabilities, ONNX against scikit-learn.
        size_mb: of all files of the model, in 10^6 bytes.
        latency_ms: median time of an answer for one row.
    """

    onnx_difference: float = math.nan
    size_mb: float = math.nan
    latency_ms: float = math.nan


def judge(
    found: dict[str, float], slices: list[Slice], facts: Facts, comparison: Comparison, settings: Evaluation
) -> Verdict:
    """Hold a model against every rule that the settings ask for.

    Args:
        found: its metrics on the whole test split.
    """
    gate = settings.gate
    rules = [*floors(found, gate), *calibration(found, gate)]
    if gate.worst_slice is not None and slices:
        rules.append(worst_slice(slices, settings, gate.worst_slice))
    return Verdict([*rules, *limits(facts, gate), *against_champion(comparison, gate)])


def floors(found: dict[str, float], gate: Gate) -> Iterator[Rule]:
    """One rule per metric of `gate.floors`; for a metric of which less is better, the number is a ceiling."""
    for name, threshold in gate.floors.items():
        yield (at_most if name in LOWER_IS_BETTER else at_least)(name, found.get(name, math.nan), threshold)


def calibration(found: dict[str, float], gate: Gate) -> Iterator[Rule]:
    if gate.calibration_error is not None:
        yield at_most("calibration_error", found.get("calibration_error", math.nan), gate.calibration_error)


def limits(facts: Facts, gate: Gate) -> Iterator[Rule]:
    """ONNX equal to scikit-learn, the model's size, the time of one answer."""
    for name in ("onnx_difference", "size_mb", "latency_ms"):
        threshold = getattr(gate, name)
        if threshold is not None:
            yield at_most(name, getattr(facts, name), threshold)


def worst_slice(slices: list[Slice], settings: Evaluation, floor: float) -> Rule:
    """Hold the worst slice against the floor: it fails if its whole interval lies below.

    The value alone would not do: of twenty slices some are small, and the worst of them is low by chance.
    """
    metric = compared_by(settings.gate.metric)
    judged = [one for one in slices if one.is_judged(settings.slices)]
    worst = worst_of(slices, settings.slices, metric)
    if worst is None:
        fewest = f"{settings.slices.min_rows} rows and {settings.slices.min_positives} of each class"
        return Rule("worst_slice", math.nan, floor, False, f"not computed: none of {len(slices)} slices has {fewest}")
    below = [one for one in judged if not one.metrics[metric].high >= floor]
    shown = min(below, key=lambda one: one.metrics[metric].value, default=worst)
    interval = shown.metrics[metric]
    words = f"{shown.label} is the worst of {len(judged)} slices: {label_of(metric)} {_interval(interval)}"
    words += f", {'below' if below else 'not shown to be below'} {floor:g}"
    return Rule("worst_slice", interval.value, floor, not below, words)


def against_champion(comparison: Comparison, gate: Gate) -> Iterator[Rule]:
    """Of the same data set; not worse than the champion beyond a margin; and, if that is asked for, better."""
    if comparison.other_data_set:
        yield data_set(comparison)
    if comparison.why_none:
        return
    if comparison.differences is None:
        reason = f"not compared with the champion (version {comparison.version}): {comparison.why_not}"
        yield Rule("not_worse_than_champion", math.nan, gate.margin, False, reason)
        return
    gain = _gain(comparison.differences[gate.metric], gate.metric)
    seen = f"{label_of(gate.metric)} {_interval(gain, '+')} against the champion (version {comparison.version})"
    if comparison.unknown:
        seen += f", which may have been trained on some of these rows ({comparison.unknown})"
    if gate.margin is not None:
        holds = gain.low >= -gate.margin
        words = f"{'not' if holds else 'may be'} worse by more than {gate.margin:g}"
        yield Rule("not_worse_than_champion", gain.low, -gate.margin, holds, f"{seen}: {words}")
    if gate.require_better:
        words = "better" if gain.low > 0 else "worse" if gain.high < 0 else "not shown to be better"
        yield Rule(BETTER, gain.low, 0.0, gain.low > 0, f"{seen}: {words}")


def data_set(comparison: Comparison) -> Rule:
    """A champion stays for a model of another data set, unless none of its rows is real or the caller asks for it."""
    words = comparison.why_replaceable or (
        "it stays. Give this model a name of its own (register.model_name=NAME), or replace the champion: "
        "register.replace_data_set=true"
    )
    reason = f"{comparison.other_data_set}: {words}"
    return Rule("data_set", math.nan, None, bool(comparison.why_replaceable), reason)


def _gain(difference: Interval, metric: str) -> Interval:
    """The difference with the sign that more is better."""
    if metric in LOWER_IS_BETTER:
        return Interval(-difference.value, -difference.high, -difference.low)
    return difference


def at_least(name: str, value: float, threshold: float) -> Rule:
    words = "not computed" if math.isnan(value) else f"{value:.4f}, {'at least' if value >= threshold else 'below'}"
    return Rule(name, value, threshold, value >= threshold, f"{label_of(name)} {words} {threshold:g}")


def at_most(name: str, value: float, threshold: float) -> Rule:
    words = "not computed" if math.isnan(value) else f"{_short(value)}, {'at most' if value <= threshold else 'above'}"
    return Rule(name, value, threshold, value <= threshold, f"{label_of(name)} {words} {threshold:g}")


LABELS = {
    "roc_auc": "AUC",
    "ks_statistic": "KS statistic",
    "onnx_difference": "ONNX against scikit-learn: largest difference",
    "size_mb": "size in MB",
    "latency_ms": "one row in ms",
    "f1": "F1",
}


def label_of(name: str) -> str:
    return LABELS.get(name, name.replace("_", " "))


def _interval(interval: Interval, sign: str = "") -> str:
    return f"{interval.value:{sign}.4f} ({interval.low:{sign}.4f} to {interval.high:{sign}.4f})"


def _short(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 or value == 0 else f"{value:.1e}"

"""The decision whether a model may become champion: measurements in, a verdict out, nothing read or written.

Every rule has a value, a threshold and an outcome in words. What could not be measured fails its rule. A model passes
if every rule holds. The last rule asks for more than not being worse: the champion moves only for a model that the
paired interval shows to be better, since each move changes answers that people rely on. A model that fails this rule
alone is *as good*: nothing is wrong with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from evaluate.slices import Slice, choose_slice_metric, find_worst_slice
from stepkit.model.metric_table import get_metric
from stepkit.model.statistics import Interval
from stepkit.settings.evaluate import AS_GOOD, PASSED, REJECTED, Evaluation, Gate
from stepkit.store.champion import OtherDataSet

BETTER = "better_than_champion"
NOT_WORSE = "not_worse_than_champion"


@dataclass(frozen=True)
class Rule:
    """One rule of the gate: what was measured, the threshold, and the outcome in words."""

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
        return not self.failed

    @property
    def failed(self) -> list[Rule]:
        return [rule for rule in self.rules if not rule.passed]

    @property
    def outcome(self) -> str:
        if self.passed:
            return PASSED
        return AS_GOOD if [rule.name for rule in self.failed] == [BETTER] else REJECTED

    @property
    def reasons(self) -> str:
        """Why it does not pass, in words; that a rejected model is not better either goes without saying."""
        return "; ".join(rule.reason for rule in self.failed if rule.name != BETTER or self.outcome == AS_GOOD)

    def to_dict(self) -> dict[str, Any]:
        return {"passed": self.passed, "outcome": self.outcome, "reasons": self.reasons, **asdict(self)}


@dataclass(frozen=True)
class Comparison:
    """The champion on the rows that it was not trained on.

    Attributes:
        version: of the champion; "" if there is none.
        why_none: why there is nothing to compare with, in words: no champion, or one of another data set.
        why_not: why a comparison that is due could not be made, in words.
        other_data_set: if the champion is of another one.
        differences: our metrics minus the champion's, with paired intervals, where it could be compared.
        unknown: why it is unknown which of the rows the champion was trained on, in words.
        metrics: the champion's own, with intervals.
        rows: how many both were compared on; `excluded`: how many the champion was trained on.
    """

    version: str = ""
    reason_not_needed: str = ""
    reason_not_compared: str = ""
    other_data_set: OtherDataSet | None = None
    differences: dict[str, Interval] = field(default_factory=dict)
    unknown: str = ""
    metrics: dict[str, Interval] = field(default_factory=dict)
    rows: int = 0
    excluded: int = 0

    def to_report(self) -> dict[str, Any]:
        """Return the keys `champion` and `difference` of evaluation.json."""
        champion = {
            "version": self.version,
            "reason_not_compared": self.reason_not_needed or self.reason_not_compared or None,
            "rows_compared": self.rows,
            "rows_excluded": self.excluded,
            "rows_unknown": self.unknown or None,
            "metrics": {name: interval.to_dict() for name, interval in self.metrics.items()},
        }
        differences = {name: interval.to_dict() for name, interval in self.differences.items()}
        return {"champion": champion if self.version else None, "difference": differences}


@dataclass(frozen=True)
class Facts:
    """What is known of the model besides its answers; NaN for what was not measured.

    Attributes:
        onnx_difference: largest absolute difference of probabilities, ONNX against scikit-learn.
        size_mb: of all files of the model, in 10^6 bytes.
        latency_ms: median time of an answer for one row.
    """

    onnx_difference: float = math.nan
    size_mb: float = math.nan
    latency_ms: float = math.nan


def judge_model(
    metrics: dict[str, float], slices: list[Slice], facts: Facts, comparison: Comparison, settings: Evaluation
) -> Verdict:
    """Judge a model, with these metrics on the whole test split, by every rule that the settings ask for."""
    gate = settings.gate
    rules = [
        _check_bound(name, metrics, floor, get_metric(name).lower_is_better) for name, floor in gate.floors.items()
    ]
    rules += _check_ceilings(("calibration_error",), metrics, gate)
    if gate.worst_slice is not None and slices:
        rules.append(check_worst_slice(slices, settings, gate.worst_slice))
    rules += _check_ceilings(("onnx_difference", "size_mb", "latency_ms"), vars(facts), gate)
    return Verdict([*rules, *check_against_champion(comparison, gate)])


def _check_ceilings(names: tuple[str, ...], values: Mapping[str, float], gate: Gate) -> list[Rule]:
    limits = {name: getattr(gate, name) for name in names}
    return [_check_bound(name, values, limit, True) for name, limit in limits.items() if limit is not None]


def _check_bound(name: str, values: Mapping[str, float], threshold: float, is_ceiling: bool) -> Rule:
    value = values.get(name, math.nan)
    passed = value <= threshold if is_ceiling else value >= threshold
    words = ("at most" if passed else "above") if is_ceiling else ("at least" if passed else "below")
    shown = f"{value:.4f}" if value >= 0.0001 or value == 0 else f"{value:.1e}"
    found = "not computed" if math.isnan(value) else f"{shown}, {words}"
    return Rule(name, value, threshold, passed, f"{get_label(name)} {found} {threshold:g}")


def check_worst_slice(slices: list[Slice], settings: Evaluation, floor: float) -> Rule:
    """Compare the worst slice with the floor: it fails if its whole interval is below.

    The value alone would not do: of twenty slices some are small, and the worst of them is low by chance.
    """
    metric = choose_slice_metric(settings.gate.metric)
    judged = [one for one in slices if one.is_judged(settings.slices)]
    worst = find_worst_slice(judged, settings.slices, metric)
    if worst is None:
        fewest = f"{settings.slices.min_rows} rows and {settings.slices.min_positives} of each class"
        return Rule("worst_slice", math.nan, floor, False, f"not computed: none of {len(slices)} slices has {fewest}")
    below = [one for one in judged if not one.metrics[metric].high >= floor]
    shown = find_worst_slice(below, settings.slices, metric) or worst
    interval = shown.metrics[metric]
    words = f"{shown.label} is the worst of {len(judged)} slices: {get_label(metric)} {_format_interval(interval)}"
    words += f", {'below' if below else 'not shown to be below'} {floor:g}"
    return Rule("worst_slice", interval.value, floor, not below, words)


def check_against_champion(comparison: Comparison, gate: Gate) -> Iterator[Rule]:
    """Yield the rules: of the same data set; not worse than the champion beyond a margin; if asked for, better."""
    if other := comparison.other_data_set:
        words = other.why_replaceable or (
            "it stays. Give this model a name of its own (register.model_name=NAME), or replace the champion: "
            "register.replace_data_set=true"
        )
        yield Rule("data_set", math.nan, None, bool(other.why_replaceable), f"{other.words}: {words}")
    if comparison.reason_not_needed:
        return
    version = f"the champion (version {comparison.version})"
    if comparison.reason_not_compared:
        reason = f"not compared with {version}: {comparison.reason_not_compared}"
        yield Rule(NOT_WORSE, math.nan, gate.margin, False, reason)
        return
    gain = _to_gain(comparison.differences[gate.metric], gate.metric)
    seen = f"{get_label(gate.metric)} {_format_interval(gain, '+')} against {version}"
    if comparison.unknown:
        seen += f", which may have been trained on some of these rows ({comparison.unknown})"
    if gate.margin is not None:
        holds = gain.low >= -gate.margin
        words = f"{'not' if holds else 'may be'} worse by more than {gate.margin:g}"
        yield Rule(NOT_WORSE, gain.low, -gate.margin, holds, f"{seen}: {words}")
    if gate.require_better:
        words = "better" if gain.low > 0 else "worse" if gain.high < 0 else "not shown to be better"
        yield Rule(BETTER, gain.low, 0.0, gain.low > 0, f"{seen}: {words}")


def _to_gain(difference: Interval, metric: str) -> Interval:
    """Return the difference with the sign that more is better."""
    if get_metric(metric).lower_is_better:
        return Interval(-difference.value, -difference.high, -difference.low)
    return difference


FACT_LABELS = {
    "onnx_difference": "ONNX against scikit-learn: largest difference",
    "size_mb": "size in MB",
    "latency_ms": "one row in ms",
}


def get_label(name: str) -> str:
    return FACT_LABELS.get(name) or get_metric(name).label


def _format_interval(interval: Interval, sign: str = "") -> str:
    return f"{interval.value:{sign}.4f} ({interval.low:{sign}.4f} to {interval.high:{sign}.4f})"

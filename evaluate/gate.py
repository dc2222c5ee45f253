"""Gate: decides from measurements if a model may become champion. Pure functions that read and write nothing.

Every rule has a value, a threshold and a reason in words. A value that was not measured fails its rule. A model passes
if it passes every rule. The last rule requires a better model, not only one that is not worse: a new champion changes
predictions that users rely on, so the paired interval must show an improvement. A model that fails only this rule is
*as good* as the champion.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from evaluate.slices import Slice, choose_slice_metric, find_worst_slice
from stepkit.model.metric_table import NOT_COMPUTED, get_metric
from stepkit.model.statistics import Interval
from stepkit.settings.evaluate import AS_GOOD, PASSED, REJECTED, Evaluation, Gate
from stepkit.store.champion import OtherDataSet

BETTER = "better_than_champion"
NOT_WORSE = "not_worse_than_champion"


@dataclass(frozen=True)
class Rule:
    """Result of one rule: the measured value, the threshold, the outcome, and the reason in words."""

    name: str
    value: float
    threshold: float | None
    passed: bool
    reason: str


@dataclass(frozen=True)
class Verdict:
    """Results of all rules, from which the outcome follows."""

    rules: list[Rule]

    @property
    def passed(self) -> bool:
        """True if no rule failed."""
        return not self.failed

    @property
    def failed(self) -> list[Rule]:
        """Failed rules."""
        return [rule for rule in self.rules if not rule.passed]

    @property
    def outcome(self) -> str:
        """Outcome: passed, as_good or rejected."""
        if self.passed:
            return PASSED
        return AS_GOOD if [rule.name for rule in self.failed] == [BETTER] else REJECTED

    @property
    def reasons(self) -> str:
        """Reasons of the failed rules. A rejected model is never better, so this rule is left out for it."""
        return "; ".join(rule.reason for rule in self.failed if rule.name != BETTER or self.outcome == AS_GOOD)

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as in verdict.json."""
        return {"passed": self.passed, "outcome": self.outcome, "reasons": self.reasons, **asdict(self)}


@dataclass(frozen=True)
class Comparison:
    """Comparison of a model with the champion, on test rows that the champion was not trained on.

    Attributes:
        version: version of the champion; "" if there is none.
        reason_not_needed: reason why no comparison is due: no champion, or a champion of another data set.
        reason_not_compared: reason why a comparison that is due failed.
        other_data_set: set if the champion is of another data set.
        differences: metrics of the model minus the champion's, with paired intervals.
        unknown: reason why the champion's training rows are unknown; "" if they are known.
        metrics: metrics of the champion, with intervals.
        rows: number of rows in the comparison.
        excluded: number of test rows that the champion was trained on.
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
    """Facts about a model besides its predictions; NaN if not measured.

    Attributes:
        onnx_difference: largest absolute difference of probabilities, ONNX against scikit-learn.
        size_mb: size of all files of the model, in 10^6 bytes.
        latency_ms: median time of a prediction for one row.
    """

    onnx_difference: float = math.nan
    size_mb: float = math.nan
    latency_ms: float = math.nan


def judge_model(
    metrics: dict[str, float], slices: list[Slice], facts: Facts, comparison: Comparison, settings: Evaluation
) -> Verdict:
    """Return the verdict on a model from its metrics on the whole test split, by all rules in the settings."""
    gate = settings.gate
    rules = [
        _check_bound(name, metrics, floor, get_metric(name).lower_is_better) for name, floor in gate.floors.items()
    ]
    rules += _check_ceilings(("calibration_error",), metrics, gate)
    if gate.worst_slice is not None and slices:
        rules.append(check_worst_slice(slices, settings, gate.worst_slice))
    rules += _check_ceilings(("onnx_difference", "size_mb", "latency_ms"), vars(facts), gate)
    return Verdict([*rules, *check_against_champion(comparison, settings)])


def _check_ceilings(names: tuple[str, ...], values: Mapping[str, float], gate: Gate) -> list[Rule]:
    limits = {name: getattr(gate, name) for name in names}
    return [_check_bound(name, values, limit, True) for name, limit in limits.items() if limit is not None]


def _check_bound(name: str, values: Mapping[str, float], threshold: float, is_ceiling: bool) -> Rule:
    value = values.get(name, math.nan)
    passed = value <= threshold if is_ceiling else value >= threshold
    text = NOT_COMPUTED if math.isnan(value) else _format_value(value)
    if not passed and not math.isnan(value):
        text += " is too high" if is_ceiling else " is too low"
    limit = f"{'at most' if is_ceiling else 'at least'} {threshold:g}"
    return Rule(name, value, threshold, passed, f"{get_label(name)} {text} (required: {limit})")


def _format_value(value: float) -> str:
    if 0 < value < 0.0001:
        return f"{value:.1e}"
    return f"{value:.6g}" if value >= 10 else f"{value:.4f}"


def check_worst_slice(slices: list[Slice], settings: Evaluation, floor: float) -> Rule:
    """Check the worst slice, which fails only if its whole interval is below the floor.

    The value alone is not enough: among twenty slices some are small, and the worst of these is low by chance.
    """
    metric = choose_slice_metric(settings.gate.metric)
    judged = [candidate for candidate in slices if candidate.is_judged(settings.slices)]
    worst = find_worst_slice(judged, settings.slices, metric)
    if worst is None:
        fewest = f"{settings.slices.min_rows} rows and {settings.slices.min_positives} of each class"
        reason = f"worst slice {NOT_COMPUTED}: none of {len(slices)} slices has {fewest} (evaluate.slices)"
        return Rule("worst_slice", math.nan, floor, False, reason)
    below = [candidate for candidate in judged if not candidate.metrics[metric].high >= floor]
    worst = find_worst_slice(below, settings.slices, metric) or worst
    interval = worst.metrics[metric]
    reason = (
        f"worst of {len(judged)} slice{'s' * (len(judged) > 1)}, {worst.label}: {get_label(metric)} "
        f"{_format_interval(interval, settings.level)} {'is below' if below else 'reaches'} the required {floor:g}"
    )
    return Rule("worst_slice", interval.value, floor, not below, reason)


def check_against_champion(comparison: Comparison, settings: Evaluation) -> Iterator[Rule]:
    """Yield the results of these rules: same data set, not worse beyond a margin and, if required, better."""
    gate = settings.gate
    if other_data_set := comparison.other_data_set:
        words = other_data_set.why_replaceable or (
            "it stays champion. Register this model under another name (register.model_name=NAME), or replace the "
            "champion (register.replace_data_set=true)"
        )
        yield Rule("data_set", math.nan, None, bool(other_data_set.why_replaceable), f"{other_data_set.words}: {words}")
    if comparison.reason_not_needed:
        return
    champion = f"the champion (version {comparison.version})"
    if comparison.reason_not_compared:
        reason = f"not compared with {champion}: {comparison.reason_not_compared}"
        yield Rule(NOT_WORSE, math.nan, gate.margin, False, reason)
        return
    difference = comparison.differences[gate.metric]
    gain = _to_gain(difference, gate.metric)
    text = f"{get_label(gate.metric)} {_format_interval(difference, settings.level, '+')} compared with {champion}"
    if comparison.unknown:
        text += f", which may have been trained on some of these rows ({comparison.unknown})"
    if gate.margin is not None:
        passed = gain.low >= -gate.margin
        extent = "not worse" if passed else "may be worse" if gain.high >= -gate.margin else "worse"
        words = f"{extent} by more than the allowed {gate.margin:g}"
        yield Rule(NOT_WORSE, gain.low, -gate.margin, passed, f"{text}: {words}")
    if gate.require_better:
        words = "better" if gain.low > 0 else "worse" if gain.high < 0 else "not shown to be better"
        yield Rule(BETTER, gain.low, 0.0, gain.low > 0, f"{text}: {words}")


def _to_gain(difference: Interval, metric: str) -> Interval:
    """Return the difference with the sign that makes more better."""
    if get_metric(metric).lower_is_better:
        return Interval(-difference.value, -difference.high, -difference.low)
    return difference


FACT_LABELS = {
    "onnx_difference": "largest difference of probabilities, ONNX against scikit-learn",
    "size_mb": "model size (MB)",
    "latency_ms": "prediction of one row (ms)",
}


def get_label(name: str) -> str:
    """Return the name of a metric or fact in words."""
    return FACT_LABELS.get(name) or get_metric(name).label


def _format_interval(interval: Interval, level: float, sign: str = "") -> str:
    limits = f"{interval.low:{sign}.4f} to {interval.high:{sign}.4f}"
    return f"{interval.value:{sign}.4f} ({level * 100:g}% interval {limits})"

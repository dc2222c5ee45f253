"""Gate: decides from measurements if a model may become champion. Pure functions that read and write nothing.

Every rule has a value, a threshold and a reason in words. A value that was not measured fails its rule. A model passes
if it passes every rule. The last rule requires a better model, not only one that is not worse: a new champion changes
predictions that users rely on, so the paired interval must show an improvement. A model that fails only this rule is
*as good* as the champion. It does not have to be better than a champion that fails a rule for a model alone, such as
`calibration_error`. Limits change with a release, so that the old champion may fail them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from evaluate.baselines import BaselineComparison, BaselineResult
from evaluate.calibration import Calibration
from evaluate.fairness import ColumnFairness
from evaluate.slices import Slice, choose_slice_metric, find_worst_slice
from evaluate.verdict import BETTER, NOT_WORSE, Comparison, Measured, Rule, Verdict
from stepkit.model.metric_table import NOT_COMPUTED, get_metric
from stepkit.model.single_column import SUSPICIOUS_AUC, explain_suspicions
from stepkit.model.statistics import Interval
from stepkit.settings.evaluate import Evaluation, Gate


def judge_model(measured: Measured, comparison: Comparison, settings: Evaluation) -> Verdict:
    """Return the verdict on a model, by all rules in the settings."""
    champion_failed = list_failed_rules(comparison, settings)
    rules = [*check_alone(measured, settings), *check_against_champion(comparison, champion_failed, settings)]
    return Verdict(rules, champion_failed)


def list_failed_rules(comparison: Comparison, settings: Evaluation) -> list[Rule]:
    """Return the rules for a model alone that the champion fails.

    A value that was not measured does not count, and neither does a rule that a user overruled for this champion.
    """
    rules = check_alone(comparison.champion, settings) if comparison.champion else []
    return [
        rule
        for rule in rules
        if not rule.passed and not math.isnan(rule.value) and rule.name not in comparison.overruled
    ]


def check_alone(measured: Measured, settings: Evaluation) -> list[Rule]:
    """Return the results of the rules for a model alone, without a comparison."""
    gate = settings.gate
    rules = [
        _check_bound(name, measured.metrics, floor, get_metric(name).lower_is_better)
        for name, floor in gate.floors.items()
    ]
    if gate.calibration_error is not None:
        rules.append(check_calibration(measured.calibration, settings.level, gate.calibration_error))
    if gate.worst_slice is not None and measured.slices:
        rules.append(check_worst_slice(measured.slices, settings, gate.worst_slice))
    rules += check_baselines(measured.baselines, settings)
    rules += check_fairness(measured.fairness, settings)
    return [*rules, *_check_ceilings(("onnx_difference", "size_mb", "latency_ms"), vars(measured.facts), gate)]


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


def check_calibration(calibration: Calibration | None, level: float, ceiling: float) -> Rule:
    """Check the excess of the calibration error, which fails only if its whole interval is above the ceiling."""
    label = get_label("calibration_error")
    if calibration is None or not math.isfinite(calibration.excess.low):
        return Rule("calibration_error", math.nan, ceiling, False, f"{label} {NOT_COMPUTED}")
    excess = calibration.excess
    extent = "above" if excess.low > ceiling else "not shown to be above" if excess.high > ceiling else "within"
    reason = (
        f"{label} {calibration.error:.4f} on {calibration.rows:,} rows, where chance explains "
        f"{calibration.expected:.4f}: the excess {_format_interval(excess, level)} is {extent} the allowed {ceiling:g}"
    )
    return Rule("calibration_error", excess.value, ceiling, excess.low <= ceiling, reason)


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


NEGLIGIBLE = 0.001
"""Difference in ROC AUC from a baseline that does not count as worse. A model that is a logistic regression itself
differs from the baseline by its solver, its calibration, and the rounding of its probabilities to float32."""


def check_baselines(comparison: BaselineComparison, settings: Evaluation) -> Iterator[Rule]:
    """Yield one rule for each baseline, and the rule about leakage; none for a model without baselines."""
    if settings.gate.baselines:
        for result in comparison.results:
            yield _check_baseline(result, settings.level)
    if comparison.aucs:
        yield check_leakage(comparison)


def _check_baseline(result: BaselineResult, level: float) -> Rule:
    """Check a baseline, which fails only if the whole interval of the difference is below -NEGLIGIBLE."""
    difference = result.difference
    if math.isnan(difference.high):
        reason = f"not compared with {result.label}: a class has fewer than 2 test rows"
        return Rule(result.rule, math.nan, -NEGLIGIBLE, False, reason)
    passed = difference.high >= -NEGLIGIBLE
    words = "better" if result.is_beaten else "not shown to be better" if passed else "worse"
    text = f"{get_label('roc_auc')} {_format_interval(difference, level, '+')} compared with {result.label}"
    return Rule(
        result.rule, difference.high, -NEGLIGIBLE, passed, f"{text}, which has {result.roc_auc.value:.4f}: {words}"
    )


def check_leakage(comparison: BaselineComparison) -> Rule:
    """Check that no column alone ranks the training rows suspiciously well, except the columns in leakage_checked."""
    warning = explain_suspicions(comparison.suspicions)
    best = max(comparison.aucs, key=lambda name: comparison.aucs[name])
    reason = f"highest ROC AUC of one column alone on the training rows: {comparison.aucs[best]:.4f} ({best})"
    if checked := [suspicion.column for suspicion in comparison.suspicions if suspicion.checked]:
        reason += f"; leakage_checked names {', '.join(checked)}"
    return Rule("leakage", comparison.aucs[best], SUSPICIOUS_AUC, not warning, warning or reason)


def check_fairness(fairness: list[ColumnFairness], settings: Evaluation) -> Iterator[Rule]:
    """Yield the rules about the groups of protected columns; none if no column has two groups with enough rows.

    A rule fails only if the whole interval of a comparison is beyond the bound.
    """
    gate = settings.gate
    groups = [(f"{column.label}: {group.label}", group) for column in fairness for group in column.groups]
    ratios = [(name, group.approval_ratio) for name, group in groups if math.isfinite(group.approval_ratio.value)]
    gaps = [(name, group.opportunity_gap) for name, group in groups if math.isfinite(group.opportunity_gap.value)]
    if gate.approval_ratio is not None and ratios:
        below = [name for name, ratio in ratios if ratio.high < gate.approval_ratio]
        name, ratio = min(ratios, key=lambda pair: (pair[0] not in below, pair[1].value))
        text = f"lowest approval rate, as a share of the highest of its column, {name}"
        reason = _explain_group(text, ratio, below, f"the required {gate.approval_ratio:g}", "below", settings.level)
        yield Rule("approval_ratio", ratio.value, gate.approval_ratio, not below, reason)
    if gate.opportunity_gap is not None and gaps:
        above = [name for name, gap in gaps if gap.low > gate.opportunity_gap]
        name, gap = max(gaps, key=lambda pair: (pair[0] in above, pair[1].value))
        text = f"largest gap in the approval rate of clients of class 0, {name}"
        reason = _explain_group(text, gap, above, f"the allowed {gate.opportunity_gap:g}", "above", settings.level)
        yield Rule("opportunity_gap", gap.value, gate.opportunity_gap, not above, reason)


def _explain_group(text: str, value: Interval, failed: list[str], bound: str, side: str, level: float) -> str:
    outcome = f"is {side} {bound}" if failed else f"is not shown to be {side} {bound}"
    others = f" (in all: {', '.join(failed)})" if len(failed) > 1 else ""
    return f"{text}: {_format_interval(value, level)} {outcome}{others}"


def check_against_champion(comparison: Comparison, champion_failed: list[Rule], settings: Evaluation) -> Iterator[Rule]:
    """Yield the results of these rules: same data set, not worse beyond a margin and, if required, better.

    A model that is not worse may replace a champion that fails a rule for a model alone.
    """
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
        passed = is_not_worse(gain, gate)
        extent = "not worse" if passed else "may be worse" if gain.high >= -gate.margin else "worse"
        words = f"{extent} by more than the allowed {gate.margin:g}"
        yield Rule(NOT_WORSE, gain.low, -gate.margin, passed, f"{text}: {words}")
    if gate.require_better:
        words = "better" if gain.low > 0 else "not shown to be better"
        if gain.high < 0:
            within = f", but not by more than the allowed {gate.margin:g}" if is_not_worse(gain, gate) else ""
            words = f"worse{within if gate.margin else ''}"
        passed = gain.low > 0
        if not passed and champion_failed and is_not_worse(gain, gate):
            failed = "; ".join(f"{rule.name}: {rule.reason}" for rule in champion_failed)
            passed, words = True, f"{words}, but the champion fails the gate's rule {failed}"
        yield Rule(BETTER, gain.low, 0.0, passed, f"{text}: {words}")


def is_tie(differences: dict[str, Interval], settings: Evaluation) -> bool:
    """Return True if the model is not worse than the champion and not shown to be better either."""
    gain = _to_gain(differences[settings.gate.metric], settings.gate.metric)
    return is_not_worse(gain, settings.gate) and not gain.low > 0


def is_not_worse(gain: Interval, gate: Gate) -> bool:
    """Return True if the model is not worse by more than the margin; without a margin, if it is not shown to be worse.

    `gain` is the difference from the champion, where more is better.
    """
    return gain.high >= 0 if gate.margin is None else gain.low >= -gate.margin


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

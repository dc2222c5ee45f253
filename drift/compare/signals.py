"""Judgement of a window: drifted columns, data quality, performance, and the signals that alarm."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from drift.compare import performance
from drift.compare.column_tests import ColumnComparison, compare_column, is_coded
from drift.compare.groups import GroupChange, compare_groups
from drift.compare.inputs import Current, Reference, Sides, make_approvals
from drift.compare.quality import RULES, Fault, check_quality, count_rules
from drift.compare.stability import CONVENTION, Indices, compute_indices
from stepkit.model.statistics import compute_sidak_level
from stepkit.settings.drift import GROUP_SIGNAL, Monitoring
from stepkit.table.columns import Columns

SCORE, LABEL = "score", "label"

Signal = dict[str, Any]

Findings = tuple[dict[str, Signal], dict[str, Any]]
"""Signals and details, by name."""


@dataclass(frozen=True)
class Judgement:
    """Findings about a window, compared with its reference."""

    columns: list[ColumnComparison]
    faults: list[Fault] = field(default_factory=list)
    signals: dict[str, Signal] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def drifted(self) -> list[ColumnComparison]:
        """Columns that drifted."""
        return [column for column in self.columns if column.drifted]

    @property
    def drift_share(self) -> float:
        """Share of the columns that drifted."""
        return len(self.drifted) / len(self.columns) if self.columns else 0.0


def judge(sides: Sides, settings: Monitoring, columns: list[ColumnComparison] | None = None) -> Judgement:
    """Return the judgement of a window. All of its tests share one family-wise error rate (`alpha`, Sidak).

    Args:
        sides: the reference and the window.
        settings: thresholds and error rate.
        columns: the comparisons by Evidently; None: compare the columns here.
    """
    reference, current = sides.reference, sides.current
    names = list_inputs(sides)
    tests = len(names) + 2 + count_rules(reference.rows[names], sides.columns)
    level = compute_sidak_level(settings.alpha, tests)
    common = [name for name in names if name in current.rows]
    described = _describe_columns(sides, names)
    if columns is None:
        columns = [_compare_column(name, sides, level, settings) for name in common]
    faults = check_quality(reference.rows[common], current.rows[common], sides.columns, level, settings.min_share)
    signals, details = judge_score(reference, current, level, settings)
    pairs = {name: align_types(reference.rows[name], current.rows[name]) for name in common}
    groups = judge_groups(sides, settings)
    indices = compute_indices(SCORE, pairs, reference, current, sides.columns, settings)
    return Judgement(
        columns,
        faults,
        {
            **_build_drift_signal(Judgement(columns), settings),
            **signals,
            **_build_quality_signals(faults, described["columns_gone"], current, settings),
            **_build_stability_signals(indices),
            **_build_group_signal(groups),
        },
        {
            **described,
            "tests": tests,
            "p_threshold": level,
            "stability": {"convention": CONVENTION, **asdict(indices)},
            "groups": [asdict(group) | {"alarm": group.alarm} for group in groups],
            **details,
        },
    )


def list_inputs(sides: Sides) -> list[str]:
    """Return the model's input columns that the reference has; without a model, all columns of the reference."""
    names = list(map(str, sides.reference.rows))
    if sides.columns is None:
        return names
    inputs = sides.columns.names if sides.inputs is None else sides.inputs
    return [name for name in sides.columns.names if name in names and name in inputs]


def _describe_columns(sides: Sides, names: list[str]) -> dict[str, Any]:
    """Return the compared columns (`names`) that the window lacks, its other columns, and its unreadable values.

    The scorer also records protected columns that are not inputs; they are not new.
    """
    protected = sides.columns.protected if sides.columns else []
    current = list(map(str, sides.current.rows))
    return {
        "columns_gone": [name for name in names if name not in current],
        "columns_new": [name for name in current if name not in names and name not in protected],
        "unreadable": sides.current.unreadable,
    }


def judge_groups(sides: Sides, settings: Monitoring) -> list[GroupChange]:
    """Return the change of the approval rate of each protected group; empty without a model."""
    before, current = sides.reference.approvals, sides.current
    if sides.columns is None or before is None or current.predicted is None:
        return []
    after = make_approvals(current.predicted, current.rows, sides.columns)
    return compare_groups(before, after, sides.columns, settings.alpha, settings.min_effect)


def _compare_column(name: str, sides: Sides, level: float, settings: Monitoring) -> ColumnComparison:
    before, after = align_types(sides.reference.rows[name], sides.current.rows[name])
    coded = is_coded(before, _is_declared(name, sides.columns))
    return compare_column(name, before, after, coded, level, settings.min_effect)


def align_types(before: pd.Series, after: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Return two samples of one type: numbers, or texts if one side contains texts."""
    if pd.api.types.is_numeric_dtype(before) and pd.api.types.is_numeric_dtype(after):
        return before.astype(float), after.astype(float)
    if after.isna().all():
        return before, after
    return before.where(before.isna(), before.astype(str)), after.where(after.isna(), after.astype(str))


def _is_declared(name: str, columns: Columns | None) -> bool:
    column = columns.columns.get(name) if columns else None
    return column is not None and (column.role == "categorical" or column.values is not None)


def make_signal(value: float, threshold: float, alarm: bool, **more: Any) -> Signal:
    """Return a signal as it is written to drift.json."""
    return {"value": float(value), "threshold": float(threshold), "alarm": bool(alarm), **more}


def _build_drift_signal(judgement: Judgement, settings: Monitoring) -> dict[str, Signal]:
    share, names = judgement.drift_share, [column.column for column in judgement.drifted]
    return {"drift_share": make_signal(share, settings.drift_share, share > settings.drift_share, columns=names)}


def _build_stability_signals(indices: Indices) -> dict[str, Signal]:
    """Return the signals of the indices that could be computed; `csi` has the value of the worst column."""
    signals = {}
    for name, index in (("psi_score", indices.score), ("csi", indices.find_worst())):
        if index is not None and index.value is not None and index.threshold is not None:
            signals[name] = make_signal(index.value, index.threshold, index.alarm, convention=CONVENTION)
    if "csi" in signals:
        signals["csi"]["columns"] = [column.column for column in indices.columns if column.alarm]
    return signals


def _build_group_signal(groups: list[GroupChange]) -> dict[str, Signal]:
    """Return the signal of the group with the largest fall beyond chance; {} if no group is compared."""
    compared = [group for group in groups if not group.reason]
    if not compared:
        return {}
    worst = min(compared, key=lambda group: group.change / group.limit)
    names = [f"{group.column}: {group.group}" for group in compared if group.alarm]
    return {GROUP_SIGNAL: make_signal(worst.change, worst.limit, worst.alarm, groups=names)}


def judge_score(reference: Reference, current: Current, level: float, settings: Monitoring) -> Findings:
    """Return the findings about score, label and performance; empty without a model."""
    if current.probability is None or reference.scored is None:
        return {}, {}
    pairs = [(SCORE, reference.scored.probability, current.probability, False)]
    if reference.label is not None and current.label is not None and current.labelled:
        pairs.append((LABEL, reference.label, current.label, True))
    comparisons = [
        compare_column(name, pd.Series(before), pd.Series(after), coded, level, settings.min_effect)
        for name, before, after, coded in pairs
    ]
    drifts = {
        f"{column.column}_drift": make_signal(column.score, column.threshold, column.drifted, p_value=column.p_value)
        for column in comparisons
    }
    label = current.label if current.label is not None else np.full(len(current.probability), np.nan)
    signals, details = judge_performance(reference.scored, performance.ScoredRows(current.probability, label), settings)
    return {**drifts, **signals}, {**{column.column: asdict(column) for column in comparisons}, **details}


def judge_performance(
    reference: performance.ScoredRows, window: performance.ScoredRows, settings: Monitoring
) -> Findings:
    """Return the findings about the estimated and the realised AUC; empty if the reference has too few labels."""
    before = performance.compute_realised_auc(reference)
    if before is None:
        return {}, {}
    signals = {}
    for name, auc in (
        ("estimated_auc", performance.estimate_auc(reference, window.probability)),
        ("realised_auc", performance.compute_realised_auc(window)),
    ):
        if auc:
            limit = performance.compute_lower_limit(before, auc, settings.auc_drop, settings.alpha)
            bounds = {"lower": auc.low, "upper": auc.high, "reference": before.value}
            signals[name] = make_signal(auc.value, limit, auc.value < limit, **bounds)
    return signals, {
        "reference_auc": {"value": before.value, "lower": before.low, "upper": before.high},
        "realised": performance.compute_calibration(reference, window),
        "reference_realised": performance.compute_calibration(reference, reference),
    }


def _build_quality_signals(
    faults: list[Fault], missing_columns: list[str], current: Current, settings: Monitoring
) -> dict[str, Signal]:
    signals = {}
    for rule in RULES:
        rule_faults = [fault for fault in faults if fault.rule == rule]
        names = [fault.column for fault in rule_faults if fault.alarm]
        worst = max((fault.rise for fault in rule_faults), default=0.0)
        signals[rule] = make_signal(max(worst, 0.0), settings.min_share, bool(names), columns=names)
    signals["columns_gone"] = make_signal(len(missing_columns), 0, bool(missing_columns), columns=missing_columns)
    return {**signals, **build_clock_signal(current)}


def build_clock_signal(current: Current) -> dict[str, Signal]:
    """Return the signal of rows whose time is in the future, which are not compared."""
    return {"clock": make_signal(current.future_rows, 0, current.future_rows > 0)}

"""Both sides of a comparison -> what drifted, which data are bad, how the model does, and which signals alarm."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from drift.compare import performance
from drift.compare.column_tests import ColumnComparison, compare_column, is_coded
from drift.compare.inputs import Current, Reference, Sides
from drift.compare.quality import RULES, Fault, count_rules, faults
from stepkit.model.statistics import compute_sidak_level
from stepkit.settings.drift import Monitoring
from stepkit.table.columns import Columns

SCORE, LABEL = "score", "label"

Signal = dict[str, Any]

Findings = tuple[dict[str, Signal], dict[str, Any]]
"""Signals and details, by name."""


@dataclass(frozen=True)
class Judgement:
    """A window next to its reference."""

    columns: list[ColumnComparison]
    faults: list[Fault] = field(default_factory=list)
    signals: dict[str, Signal] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def drifted(self) -> list[ColumnComparison]:
        return [one for one in self.columns if one.drifted]

    @property
    def drift_share(self) -> float:
        return len(self.drifted) / len(self.columns) if self.columns else 0.0


def judge(sides: Sides, settings: Monitoring, columns: list[ColumnComparison] | None = None) -> Judgement:
    """Compare a window with its reference; every test of it shares one family-wise error rate.

    Args:
        columns: the columns as Evidently compared them; None: they are compared here.
    """
    reference, current = sides.reference, sides.current
    names = list_inputs(sides)
    tests = len(names) + 2 + count_rules(reference.rows[names], sides.columns)
    level = compute_sidak_level(settings.alpha, tests)
    common = [name for name in names if name in current.rows]
    gone = [name for name in names if name not in common]
    if columns is None:
        columns = [_compare_column(name, sides, level, settings) for name in common]
    bad = faults(reference.rows[common], current.rows[common], sides.columns, level, settings.min_share)
    signals, details = judge_score(reference, current, level, settings)
    return Judgement(
        columns,
        bad,
        {
            **_build_drift_signal(Judgement(columns), settings),
            **signals,
            **_build_quality_signals(bad, gone, current, settings),
        },
        {
            "columns_gone": gone,
            "columns_new": [name for name in map(str, current.rows) if name not in names],
            "tests": tests,
            "p_threshold": level,
            "unreadable": current.unreadable,
            **details,
        },
    )


def list_inputs(sides: Sides) -> list[str]:
    """Return the columns of the model's signature that the reference has; without a model all of the reference."""
    own = list(map(str, sides.reference.rows))
    return [name for name in sides.columns.names if name in own] if sides.columns else own


def _compare_column(name: str, sides: Sides, level: float, settings: Monitoring) -> ColumnComparison:
    before, now = align_types(sides.reference.rows[name], sides.current.rows[name])
    coded = is_coded(before, _is_declared(name, sides.columns))
    return compare_column(name, before, now, coded, level, settings.min_effect)


def align_types(before: pd.Series, now: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Return two samples of one type: texts on either side make both texts."""
    if pd.api.types.is_numeric_dtype(before) and pd.api.types.is_numeric_dtype(now):
        return before.astype(float), now.astype(float)
    if now.isna().all():
        return before, now
    return before.where(before.isna(), before.astype(str)), now.where(now.isna(), now.astype(str))


def _is_declared(name: str, columns: Columns | None) -> bool:
    column = columns.columns.get(name) if columns else None
    return column is not None and (column.role == "categorical" or column.values is not None)


def make_signal(value: float, threshold: float, alarm: bool, **more: Any) -> Signal:
    return {"value": float(value), "threshold": float(threshold), "alarm": bool(alarm), **more}


def _build_drift_signal(judged: Judgement, settings: Monitoring) -> dict[str, Signal]:
    share, named = judged.drift_share, [one.column for one in judged.drifted]
    return {"drift_share": make_signal(share, settings.drift_share, share > settings.drift_share, columns=named)}


def judge_score(reference: Reference, current: Current, level: float, settings: Monitoring) -> Findings:
    """Return the findings about the model's score, the label and the performance; none without a model."""
    if current.probability is None or reference.scored is None:
        return {}, {}
    pairs = [(SCORE, reference.scored.probability, current.probability, False)]
    if reference.label is not None and current.label is not None and current.labelled:
        pairs.append((LABEL, reference.label, current.label, True))
    compared = [
        compare_column(name, pd.Series(before), pd.Series(now), coded, level, settings.min_effect)
        for name, before, now, coded in pairs
    ]
    drifts = {
        f"{one.column}_drift": make_signal(one.score, one.threshold, one.drifted, p_value=one.p_value)
        for one in compared
    }
    label = current.label if current.label is not None else np.full(len(current.probability), np.nan)
    signals, details = judge_performance(reference.scored, performance.ScoredRows(current.probability, label), settings)
    return {**drifts, **signals}, {**{one.column: asdict(one) for one in compared}, **details}


def judge_performance(known: performance.ScoredRows, window: performance.ScoredRows, settings: Monitoring) -> Findings:
    """Return the findings about the AUC, estimated and realised; none if too few labels of the reference are known."""
    before = performance.compute_realised_auc(known)
    if before is None:
        return {}, {}
    signals = {}
    for name, auc in (
        ("estimated_auc", performance.estimate_auc(known, window.probability)),
        ("realised_auc", performance.compute_realised_auc(window)),
    ):
        if auc:
            limit = performance.compute_lower_limit(before, auc, settings.auc_drop, settings.alpha)
            bounds = {"lower": auc.low, "upper": auc.high, "reference": before.value}
            signals[name] = make_signal(auc.value, limit, auc.value < limit, **bounds)
    return signals, {
        "reference_auc": {"value": before.value, "lower": before.low, "upper": before.high},
        "realised": performance.compute_calibration(known, window),
        "reference_realised": performance.compute_calibration(known, known),
    }


def _build_quality_signals(
    bad: list[Fault], gone: list[str], current: Current, settings: Monitoring
) -> dict[str, Signal]:
    signals = {}
    for rule in RULES:
        of_rule = [fault for fault in bad if fault.rule == rule]
        named = [fault.column for fault in of_rule if fault.alarm]
        worst = max((fault.rise for fault in of_rule), default=0.0)
        signals[rule] = make_signal(max(worst, 0.0), settings.min_share, bool(named), columns=named)
    signals["columns_gone"] = make_signal(len(gone), 0, bool(gone), columns=gone)
    signals["clock"] = make_signal(current.future_rows, 0, current.future_rows > 0)
    return signals

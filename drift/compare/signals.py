"""Both sides of a comparison -> what drifted, which data are bad, how the model does, and which signals alarm."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from drift.compare import performance
from drift.compare.column_tests import Found, compare, is_coded
from drift.compare.inputs import Current, Floats, Reference, Sides
from drift.compare.quality import RULES, Fault, count_rules, faults
from stepkit.model.statistics import Interval, sidak
from stepkit.settings.drift import Monitoring
from stepkit.table.columns import Columns

SCORE = "score"
LABEL = "label"

Signal = dict[str, Any]


@dataclass(frozen=True)
class Compared:
    """One column, the score or the label of both sides."""

    column: str
    found: Found
    reference_mean: float | None
    current_mean: float | None

    def as_dict(self) -> dict[str, Any]:
        means = {"reference_mean": self.reference_mean, "current_mean": self.current_mean}
        return {"column": self.column, **asdict(self.found), **means}


@dataclass(frozen=True)
class Judged:
    """What a window looks like beside its reference."""

    columns: list[Compared]
    faults: list[Fault] = field(default_factory=list)
    signals: dict[str, Signal] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def drifted(self) -> list[Compared]:
        return [one for one in self.columns if one.found.drifted]

    @property
    def drift_share(self) -> float:
        return len(self.drifted) / len(self.columns) if self.columns else 0.0


def judge(sides: Sides, settings: Monitoring, columns: list[Compared] | None = None) -> Judged:
    """Compare a window with its reference; every test of it shares one family-wise error rate.

    Args:
        columns: what somebody else found about the columns; None: they are compared here.
    """
    reference, current = sides.reference, sides.current
    names = input_names(sides)
    level = sidak(settings.alpha, len(names) + 2 + count_rules(reference.rows[names], sides.columns))
    common = [name for name in names if name in current.rows]
    compared = columns if columns is not None else [_column(name, sides, level, settings) for name in common]
    bad = faults(reference.rows[common], current.rows[common], sides.columns, level, settings.min_share)
    extras: dict[str, Any] = {
        "columns_gone": [name for name in names if name not in current.rows],
        "columns_new": [name for name in map(str, current.rows) if name not in names],
        "tests": len(names) + 2 + count_rules(reference.rows[names], sides.columns),
        "p_threshold": level,
        "unreadable": current.unreadable,
    }
    judged = Judged(compared, bad, details=extras)
    signals = {
        **_drift_signals(judged, settings),
        **_score_signals(reference, current, level, settings, extras),
        **_quality_signals(bad, extras["columns_gone"], current, settings),
    }
    return Judged(compared, bad, signals, extras)


def input_names(sides: Sides) -> list[str]:
    """The columns of the model's signature that the reference has; without a model all of the reference."""
    own = list(map(str, sides.reference.rows))
    return [name for name in sides.columns.names if name in own] if sides.columns else own


def _column(name: str, sides: Sides, level: float, settings: Monitoring) -> Compared:
    before, now = alike(sides.reference.rows[name], sides.current.rows[name])
    found = compare(before, now, is_coded(before, _declared(name, sides.columns)), level, settings.min_effect)
    return Compared(name, found, mean_of(before), mean_of(now))


def alike(before: pd.Series, now: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Two samples of one type: texts on either side make both texts."""
    if pd.api.types.is_numeric_dtype(before) and pd.api.types.is_numeric_dtype(now):
        return before.astype(float), now.astype(float)
    if now.isna().all():
        return before, now
    return tuple(one.where(one.isna(), one.astype(str)) for one in (before, now))  # type: ignore[return-value]  # of two


def _declared(name: str, columns: Columns | None) -> bool:
    told = columns.columns.get(name) if columns else None
    return told is not None and (told.role == "categorical" or told.values is not None)


def mean_of(values: pd.Series) -> float | None:
    if not pd.api.types.is_numeric_dtype(values) or values.notna().sum() == 0:
        return None
    mean = float(values.mean())
    return mean if math.isfinite(mean) else None


def _drift_signals(judged: Judged, settings: Monitoring) -> dict[str, Signal]:
    share = judged.drift_share
    named = [one.column for one in judged.drifted]
    return {"drift_share": signal(share, settings.drift_share, share > settings.drift_share, columns=named)}


def signal(value: float, threshold: float, alarm: bool, **more: Any) -> Signal:
    return {"value": float(value), "threshold": float(threshold), "alarm": bool(alarm), **more}


def _score_signals(
    reference: Reference, current: Current, level: float, settings: Monitoring, details: dict[str, Any]
) -> dict[str, Signal]:
    signals: dict[str, Signal] = {}
    if current.probability is None or reference.scored is None:
        return signals
    held_out = reference.scored
    score = compare(pd.Series(held_out.probability), pd.Series(current.probability), False, level, settings.min_effect)
    signals["score_drift"] = signal(score.score, settings.min_effect, score.drifted, p_value=score.p_value)
    details[SCORE] = _described(SCORE, score, held_out.probability, current.probability)
    signals |= _label_signal(reference, current, level, settings, details)
    return signals | _performance_signals(reference, current, settings, details)


def _described(name: str, found: Found, before: Floats, now: Floats) -> dict[str, Any]:
    return Compared(name, found, float(np.nanmean(before)), float(np.nanmean(now))).as_dict()


def _label_signal(
    reference: Reference, current: Current, level: float, settings: Monitoring, details: dict[str, Any]
) -> dict[str, Signal]:
    if reference.label is None or current.label is None or not current.labelled:
        return {}
    found = compare(pd.Series(reference.label), pd.Series(current.label), True, level, settings.min_effect)
    details[LABEL] = _described(LABEL, found, reference.label, current.label)
    return {"label_drift": signal(found.score, settings.min_effect, found.drifted, p_value=found.p_value)}


def _performance_signals(
    reference: Reference, current: Current, settings: Monitoring, details: dict[str, Any]
) -> dict[str, Signal]:
    held_out = reference.scored
    if held_out is None or current.probability is None:
        return {}
    known = (held_out.probability, held_out.label)
    before = performance.realised_auc(*known)
    if before is None:
        return {}
    details["reference_auc"] = {"value": before.value, "lower": before.low, "upper": before.high}
    label = current.label if current.label is not None else np.full(len(current.probability), np.nan)
    found = {
        "estimated_auc": performance.estimated_auc(known, current.probability),
        "realised_auc": performance.realised_auc(current.probability, label),
    }
    details["realised"] = performance.quality_of(known, current.probability, label)
    details["reference_realised"] = performance.quality_of(known, *known)
    return {name: _auc_signal(before, one, settings) for name, one in found.items() if one}


def _auc_signal(before: Interval, found: Interval, settings: Monitoring) -> Signal:
    limit = performance.lowest_expected(before, found, settings.auc_drop, settings.alpha)
    bounds = {"lower": found.low, "upper": found.high, "reference": before.value}
    return signal(found.value, limit, found.value < limit, **bounds)


def _quality_signals(bad: list[Fault], gone: list[str], current: Current, settings: Monitoring) -> dict[str, Signal]:
    signals = {}
    for rule in RULES:
        of_rule = [fault for fault in bad if fault.rule == rule]
        named = [fault.column for fault in of_rule if fault.alarm]
        worst = max((fault.rise for fault in of_rule), default=0.0)
        signals[rule] = signal(max(worst, 0.0), settings.min_share, bool(named), columns=named)
    signals["columns_gone"] = signal(len(gone), 0, bool(gone), columns=gone)
    signals["clock"] = signal(current.future_rows, 0, current.future_rows > 0)
    return signals

"""The Evidently page of a comparison, and Evidently's own verdict where that is asked for."""

from __future__ import annotations

import os
import warnings
from typing import Any

os.environ.setdefault("DO_NOT_TRACK", "1")

import numpy as np
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.core.report import Snapshot
from evidently.legacy.calculations.stattests import StatTest, register_stattest
from evidently.legacy.core import ColumnType
from evidently.metrics import MissingValueCount, OutListValueCount, OutRangeValueCount
from evidently.presets import DataDriftPreset

from drift.compare.column_tests import NO_TEST, ColumnComparison, compute_mean
from drift.compare.inputs import Sides
from drift.compare.quality import iter_rules
from drift.compare.signals import SCORE, Judgement, align_types, list_inputs
from stepkit.table.tables import add_column

MAX_ROWS_DRAWN = 5_000
"""Of each side at most so many rows are drawn (seeded): the verdicts are of all rows, the page only shows them."""

BINS = 10
"""Evidently's histograms have so many bins."""

is_number = pd.api.types.is_numeric_dtype


def build_snapshot(sides: Sides, judged: Judgement) -> Snapshot:
    """Return Evidently's snapshot of both sides, with the verdicts of `judged` on every column and the score."""
    drawable = select_drawable([one.column for one in judged.columns], sides)
    compared = {one.column: one for one in judged.columns if one.column in drawable}
    score = choose_score_name(drawable)
    reference, current = _build_frames(sides, drawable, score)
    if SCORE in judged.details:
        compared[score] = ColumnComparison(**judged.details[SCORE])
    _register_tests(compared)
    drift = DataDriftPreset(
        columns=list(compared),
        drift_share=_compute_alarm_count(judged) / max(len(compared), 1),
        per_column_method={name: one.test for name, one in compared.items()},
        per_column_threshold={name: one.threshold for name, one in compared.items()},
    )
    return _run_report([drift, *_build_quality_metrics(sides, judged)], reference, current)


def _compute_alarm_count(judged: Judgement) -> int:
    """So many drifted columns make the page say that the data drift, as the signal `drift_share` does.

    Evidently counts the score among the columns; the signal does not.
    """
    count, threshold = len(judged.columns), judged.signals["drift_share"]["threshold"]
    columns = next((some for some in range(1, count + 1) if some / count > threshold), count + 1)
    return columns + int(judged.details.get(SCORE, {}).get("drifted", False))


def select_drawable(names: list[str], sides: Sides) -> list[str]:
    """Return the columns of which Evidently can draw a histogram on both sides: it stops at one of which it cannot."""
    return [name for name in names if all(_is_drawable(side.rows[name]) for side in (sides.reference, sides.current))]


def _is_drawable(values: pd.Series) -> bool:
    finite = _mask_infinite(values).dropna()
    if is_number(finite):
        try:
            np.histogram_bin_edges(finite, BINS)
        except ValueError:  # numbers so large that doubles have no bins between them
            return False
    return len(finite) > 0


def _mask_infinite(values: pd.Series) -> pd.Series:
    """Values of which a histogram can be drawn: numbers and booleans as doubles, infinite ones as missing."""
    return values.astype(float).replace([np.inf, -np.inf], np.nan) if is_number(values) else values


def choose_score_name(columns: list[str]) -> str:
    """Return the name of the model's own score on the page, which no column has."""
    name = SCORE
    while name in columns:
        name = f"model's {name}"
    return name


def _build_frames(sides: Sides, names: list[str], score: str) -> list[pd.DataFrame]:
    """Rows to draw of reference and window, the score among the columns; it is next to rows of the training data."""
    frames = [
        side.rows[names].sample(min(len(side.rows), MAX_ROWS_DRAWN), random_state=0).reset_index(drop=True)
        for side in (sides.reference, sides.current)
    ]
    for name in names:
        numeric = all(is_number(frame[name]) for frame in frames)
        frames = [
            add_column(frame, name, _mask_infinite(frame[name]) if numeric else frame[name].astype(str))
            for frame in frames
        ]
    if sides.reference.scored is not None and sides.current.probability is not None:
        scores = (sides.reference.scored.probability, sides.current.probability)
        # as many values of the same distribution as there are rows
        spread = [np.quantile(one, np.linspace(0, 1, len(frame))) for frame, one in zip(frames, scores, strict=True)]
        frames = [add_column(frame, score, values) for frame, values in zip(frames, spread, strict=True)]
    return frames


def _register_tests(compared: dict[str, ColumnComparison]) -> None:
    """Let Evidently show these verdicts, on all rows, instead of testing again what is drawn."""

    def verdict(reference: pd.Series, *_: object) -> tuple[float, bool]:
        one = compared[str(reference.name)]
        return one.score, one.drifted

    for test in {one.test for one in compared.values()}:
        kinds = [ColumnType.Numerical, ColumnType.Categorical]
        register_stattest(StatTest(test, f"{test}, effect", kinds), verdict)


def _build_quality_metrics(sides: Sides, judged: Judgement) -> list[Any]:
    """One number for every rule that a column breaks more often than the reference."""
    numbers: list[Any] = []
    for fault in judged.faults:
        if not fault.alarm or not select_drawable([fault.column], sides):
            continue
        allowed = dict(iter_rules(fault.column, sides.reference.rows[fault.column], sides.columns))[fault.rule]
        if fault.rule == "missing":
            numbers.append(MissingValueCount(column=fault.column))
        elif fault.rule == "unknown_codes":
            numbers.append(OutListValueCount(column=fault.column, values=allowed))
        else:
            numbers.append(OutRangeValueCount(column=fault.column, left=allowed[0], right=allowed[1]))
    return numbers


def _run_report(metrics: list[Any], reference: pd.DataFrame, current: pd.DataFrame) -> Snapshot:
    coded = [name for name in reference if not is_number(reference[name])]
    definition = DataDefinition(
        numerical_columns=[name for name in reference if name not in coded], categorical_columns=coded or None
    )
    sides = [Dataset.from_pandas(frame, data_definition=definition) for frame in (current, reference)]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # Evidently correlates every column with every other, and constant ones with a warning for each
        warnings.simplefilter("ignore")
        return Report(metrics, include_tests=True).run(*sides)


def compare_by_evidently(sides: Sides) -> tuple[Snapshot, list[ColumnComparison]]:
    """Let Evidently choose tests and thresholds itself: numbers as numerical columns, texts as categories."""
    common = [name for name in list_inputs(sides) if name in sides.current.rows]
    pairs = {
        name: align_types(sides.reference.rows[name], sides.current.rows[name])
        for name in select_drawable(common, sides)
    }
    before, now = (pd.DataFrame({name: _mask_infinite(pair[side]) for name, pair in pairs.items()}) for side in (0, 1))
    snapshot = _run_report([DataDriftPreset()], before, now)
    result = snapshot.dict()
    failed = {test["metric_config"]["metric_id"] for test in result["tests"] if str(test["status"].value) == "FAIL"}
    drifts = {metric["config"]["column"]: metric for metric in result["metrics"] if "column" in metric["config"]}
    compared = []
    for name in common:
        test, score, p_value, threshold, drifted = NO_TEST, 0.0, 1.0, 0.0, False
        means = compute_mean(sides.reference.rows[name]), compute_mean(sides.current.rows[name])
        if metric := drifts.get(name):
            test, score, threshold = metric["config"]["method"], float(metric["value"]), metric["config"]["threshold"]
            p_value, drifted = score if "p_value" in test else np.nan, metric["id"] in failed
            means = compute_mean(before[name]), compute_mean(now[name])
        compared.append(
            ColumnComparison(name, test, score, p_value, float(threshold), float(threshold), drifted, *means)
        )
    return snapshot, compared

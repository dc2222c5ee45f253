"""Evidently report of a comparison, and comparison by Evidently itself (`tests: evidently`)."""

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
"""Rows per side in the report, sampled with a fixed seed; the comparison itself uses all rows."""

BINS = 10
"""Bins of Evidently's histograms."""

is_number = pd.api.types.is_numeric_dtype


def build_snapshot(sides: Sides, judgement: Judgement) -> Snapshot:
    """Return Evidently's snapshot of both sides, with the results of `judgement` for every column and the score."""
    drawable = select_drawable([comparison.column for comparison in judgement.columns], sides)
    comparisons = {comparison.column: comparison for comparison in judgement.columns if comparison.column in drawable}
    score = choose_score_name(drawable)
    reference, current = _build_frames(sides, drawable, score)
    if SCORE in judgement.details:
        comparisons[score] = ColumnComparison(**judgement.details[SCORE])
    _register_tests(comparisons)
    drift = DataDriftPreset(
        columns=list(comparisons),
        drift_share=round_down(_compute_alarm_count(judgement), max(len(comparisons), 1)),
        per_column_method={name: comparison.test for name, comparison in comparisons.items()},
        per_column_threshold={name: comparison.threshold for name, comparison in comparisons.items()},
    )
    return _run_report([drift, *_build_quality_metrics(sides, judgement)], reference, current)


def round_down(columns: int, count: int) -> float:
    """Return columns / count, rounded down to a few digits but still above (columns - 1) / count."""
    scale = 10 ** (len(str(count)) + 2)
    return float(columns * scale // count / scale)


def _compute_alarm_count(judgement: Judgement) -> int:
    """Return the number of drifted columns from which the report marks the data set as drifted.

    The report then agrees with the signal `drift_share`. Evidently counts the score as a column; the signal does not.
    """
    count, threshold = len(judgement.columns), judgement.signals["drift_share"]["threshold"]
    columns = next((number for number in range(1, count + 1) if number / count > threshold), count + 1)
    return columns + int(judgement.details.get(SCORE, {}).get("drifted", False))


def select_drawable(names: list[str], sides: Sides) -> list[str]:
    """Return the columns with a histogram on both sides. Evidently fails at a column without one."""
    return [name for name in names if all(_is_drawable(side.rows[name]) for side in (sides.reference, sides.current))]


def _is_drawable(values: pd.Series) -> bool:
    finite = _mask_infinite(values).dropna()
    if is_number(finite):
        try:
            np.histogram_bin_edges(finite, BINS)
        except ValueError:  # The numbers are too large to be divided into bins.
            return False
    return len(finite) > 0


def _mask_infinite(values: pd.Series) -> pd.Series:
    """Return values for a histogram: numbers and booleans as doubles, infinite values as missing."""
    return values.astype(float).replace([np.inf, -np.inf], np.nan) if is_number(values) else values


def choose_score_name(columns: list[str]) -> str:
    """Return a name for the model's score in the report that differs from all columns."""
    name = SCORE
    while name in columns:
        name = f"model's {name}"
    return name


def _build_frames(sides: Sides, names: list[str], score: str) -> list[pd.DataFrame]:
    """Return the sampled rows of reference and window, with the score as an additional column."""
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
        # The scores may belong to other rows (the test split), so take quantiles: as many values as the frame has rows.
        quantiles = [
            np.quantile(values, np.linspace(0, 1, len(frame))) for frame, values in zip(frames, scores, strict=True)
        ]
        frames = [add_column(frame, score, values) for frame, values in zip(frames, quantiles, strict=True)]
    return frames


def _register_tests(comparisons: dict[str, ColumnComparison]) -> None:
    """Register tests with Evidently that return these results instead of testing the sampled rows."""

    def get_result(reference: pd.Series, *_: object) -> tuple[float, bool]:
        comparison = comparisons[str(reference.name)]
        return comparison.score, comparison.drifted

    for test in {comparison.test for comparison in comparisons.values()}:
        kinds = [ColumnType.Numerical, ColumnType.Categorical]
        register_stattest(StatTest(test, f"{test}, effect size", kinds), get_result)


def _build_quality_metrics(sides: Sides, judgement: Judgement) -> list[Any]:
    """Return one metric for every rule of a column that alarms."""
    metrics: list[Any] = []
    for fault in judgement.faults:
        if not fault.alarm or not select_drawable([fault.column], sides):
            continue
        allowed = dict(iter_rules(fault.column, sides.reference.rows[fault.column], sides.columns))[fault.rule]
        if fault.rule == "missing":
            metrics.append(MissingValueCount(column=fault.column))
        elif fault.rule == "unknown_codes":
            metrics.append(OutListValueCount(column=fault.column, values=allowed))
        else:
            metrics.append(OutRangeValueCount(column=fault.column, left=allowed[0], right=allowed[1]))
    return metrics


def _run_report(metrics: list[Any], reference: pd.DataFrame, current: pd.DataFrame) -> Snapshot:
    coded = [name for name in reference if not is_number(reference[name])]
    definition = DataDefinition(
        numerical_columns=[name for name in reference if name not in coded], categorical_columns=coded or None
    )
    sides = [Dataset.from_pandas(frame, data_definition=definition) for frame in (current, reference)]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # Evidently correlates all pairs of columns, with a warning for each constant column.
        warnings.simplefilter("ignore")
        return Report(metrics, include_tests=True).run(*sides)


def compare_by_evidently(sides: Sides) -> tuple[Snapshot, list[ColumnComparison]]:
    """Return the snapshot and the comparisons by Evidently's own tests: numbers as numerical, texts as categorical."""
    common = [name for name in list_inputs(sides) if name in sides.current.rows]
    pairs = {
        name: align_types(sides.reference.rows[name], sides.current.rows[name])
        for name in select_drawable(common, sides)
    }
    before, after = (
        pd.DataFrame({name: _mask_infinite(pair[side]) for name, pair in pairs.items()}) for side in (0, 1)
    )
    snapshot = _run_report([DataDriftPreset()], before, after)
    result = snapshot.dict()
    failed = {test["metric_config"]["metric_id"] for test in result["tests"] if str(test["status"].value) == "FAIL"}
    drifts = {metric["config"]["column"]: metric for metric in result["metrics"] if "column" in metric["config"]}
    comparisons = []
    for name in common:
        test, score, p_value, threshold, drifted = NO_TEST, 0.0, 1.0, 0.0, False
        means = compute_mean(sides.reference.rows[name]), compute_mean(sides.current.rows[name])
        if metric := drifts.get(name):
            test, score, threshold = metric["config"]["method"], float(metric["value"]), metric["config"]["threshold"]
            p_value, drifted = score if "p_value" in test else np.nan, metric["id"] in failed
            means = compute_mean(before[name]), compute_mean(after[name])
        comparisons.append(
            ColumnComparison(name, test, score, p_value, float(threshold), float(threshold), drifted, *means)
        )
    return snapshot, comparisons

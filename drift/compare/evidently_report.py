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

from drift.compare.column_tests import NOTHING, Found
from drift.compare.inputs import Sides
from drift.compare.quality import range_of, values_of
from drift.compare.signals import SCORE, Compared, Judged, alike, input_names, mean_of
from stepkit.table.tables import with_column

ROWS_DRAWN = 5_000
"""Of each side at most so many rows are drawn (seeded): the verdicts are of all rows, the page only shows them."""

BINS = 10
"""So many bins have Evidently's histograms."""

Frames = tuple[pd.DataFrame, pd.DataFrame]
"""Reference and current."""


def page_of(sides: Sides, judged: Judged) -> Snapshot:
    """Return Evidently's snapshot of both sides, with the verdicts of `judged` on every column and the score."""
    shown = with_values([one.column for one in judged.columns], sides)
    found = {one.column: one.found for one in judged.columns if one.column in shown}
    score = score_name(list(found))
    reference, current = _shown(sides, list(found), score)
    if SCORE in judged.details:
        found[score] = Found(*(judged.details[SCORE][key] for key in Found.__dataclass_fields__))
    coded = [name for name in reference if not pd.api.types.is_numeric_dtype(reference[name])]
    definition = DataDefinition(
        numerical_columns=[name for name in reference if name not in coded], categorical_columns=coded or None
    )
    _register(found)
    drift = DataDriftPreset(
        columns=list(found),
        drift_share=_smallest_alarm(judged) / max(len(found), 1),
        per_column_method={name: one.test for name, one in found.items()},
        per_column_threshold={name: one.threshold for name, one in found.items()},
    )
    return _run([drift, *_quality(sides, judged)], (reference, current), definition)


def _smallest_alarm(judged: Judged) -> int:
    """So many drifted columns make the page say that the data drift, as the signal `drift_share` does.

    Evidently counts the score among the columns; the signal does not.
    """
    count, threshold = len(judged.columns), judged.signals["drift_share"]["threshold"]
    columns = next((some for some in range(1, count + 1) if some / count > threshold), count + 1)
    return columns + int(bool(judged.details.get(SCORE, {}).get("drifted")))


def with_values(names: list[str], sides: Sides) -> list[str]:
    """The columns of which Evidently can draw a histogram on both sides: it stops at one of which it cannot."""
    return [name for name in names if all(_can_be_drawn(side.rows[name]) for side in (sides.reference, sides.current))]


def _can_be_drawn(values: pd.Series) -> bool:
    finite = _finite(values).dropna()
    if pd.api.types.is_numeric_dtype(finite):
        try:
            np.histogram_bin_edges(finite, BINS)
        except ValueError:  # numbers so large that doubles have no bins between them
            return False
    return len(finite) > 0


def _finite(values: pd.Series) -> pd.Series:
    """Values of which a histogram can be drawn: numbers and booleans as doubles, infinite ones as missing."""
    if not pd.api.types.is_numeric_dtype(values):
        return values
    return values.astype(float).replace([np.inf, -np.inf], np.nan)


def score_name(columns: list[str]) -> str:
    """The name of the model's own score on the page, which no column has."""
    name = SCORE
    while name in columns:
        name = f"model's {name}"
    return name


def _shown(sides: Sides, names: list[str], score: str) -> Frames:
    """Rows to draw, the score among the columns; it stands beside rows that the model was not trained on."""
    frames = [_drawn(side.rows[names]) for side in (sides.reference, sides.current)]
    for name in names:
        numeric = all(pd.api.types.is_numeric_dtype(frame[name]) for frame in frames)
        frames = [
            with_column(frame, name, _finite(frame[name]) if numeric else frame[name].astype(str)) for frame in frames
        ]
    if sides.reference.scored is not None and sides.current.probability is not None:
        scores = [sides.reference.scored.probability, sides.current.probability]
        frames = [
            with_column(frame, score, _spread(one, len(frame))) for frame, one in zip(frames, scores, strict=True)
        ]
    return frames[0], frames[1]


def _drawn(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.sample(min(len(rows), ROWS_DRAWN), random_state=0).reset_index(drop=True)


def _spread(scores: np.ndarray, rows: int) -> np.ndarray:
    """As many values of the same distribution: quantiles."""
    spread: np.ndarray = np.quantile(scores, np.linspace(0.0, 1.0, rows))
    return spread


def _register(found: dict[str, Found]) -> None:
    """Let Evidently show the verdicts that were found, on all rows, instead of testing again what is drawn."""

    def verdict(reference: pd.Series, current: pd.Series, kind: ColumnType, threshold: float) -> tuple[float, bool]:
        one = found[str(reference.name)]
        return one.score, one.drifted

    for test in {one.test for one in found.values()}:
        kinds = [ColumnType.Numerical, ColumnType.Categorical]
        register_stattest(StatTest(test, f"{test}, effect", kinds), verdict)


def _quality(sides: Sides, judged: Judged) -> list[Any]:
    """One number for every rule that a column breaks more often than the reference."""
    numbers: list[Any] = []
    for fault in judged.faults:
        reference = sides.reference.rows[fault.column]
        if not fault.alarm or not with_values([fault.column], sides):
            continue
        if fault.rule == "missing":
            numbers.append(MissingValueCount(column=fault.column))
        elif fault.rule == "unknown_codes":
            numbers.append(
                OutListValueCount(column=fault.column, values=values_of(fault.column, reference, sides.columns))
            )
        else:
            low, high = range_of(fault.column, reference, sides.columns)
            numbers.append(OutRangeValueCount(column=fault.column, left=low, right=high))
    return numbers


def _run(metrics: list[Any], frames: Frames, definition: DataDefinition) -> Snapshot:
    reference, current = (Dataset.from_pandas(frame, data_definition=definition) for frame in frames)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # Evidently correlates every column with every other, and constant ones with a warning for each
        warnings.simplefilter("ignore")
        return Report(metrics, include_tests=True).run(current, reference)


def by_evidently(sides: Sides) -> tuple[Snapshot, list[Compared]]:
    """Let Evidently choose tests and thresholds itself: numbers as numerical columns, texts as categories."""
    common = [name for name in input_names(sides) if name in sides.current.rows]
    names = with_values(common, sides)
    pairs = {name: alike(sides.reference.rows[name], sides.current.rows[name]) for name in names}
    before, now = (pd.DataFrame({name: _finite(pairs[name][side]) for name in names}) for side in (0, 1))
    frames = before, now
    coded = [name for name in names if not pd.api.types.is_numeric_dtype(frames[0][name])]
    definition = DataDefinition(
        numerical_columns=[name for name in names if name not in coded], categorical_columns=coded or None
    )
    snapshot = _run([DataDriftPreset()], frames, definition)
    found = {one[0]["column"]: _compared(one, frames) for one in _value_drifts(snapshot)}
    nothing = Found(NOTHING, 0.0, 1.0, 0.0, 0.0, False)
    return snapshot, [found.get(name) or Compared(name, nothing, *_means(sides, name)) for name in common]


def _means(sides: Sides, name: str) -> tuple[float | None, float | None]:
    return mean_of(sides.reference.rows[name]), mean_of(sides.current.rows[name])


def _value_drifts(snapshot: Snapshot) -> list[tuple[dict[str, Any], float, bool]]:
    """For each column Evidently's settings, its score, and whether its test failed."""
    result = snapshot.dict()
    failed = {test["metric_config"]["metric_id"] for test in result["tests"] if str(test["status"].value) == "FAIL"}
    return [
        (metric["config"], float(metric["value"]), metric["id"] in failed)
        for metric in result["metrics"]
        if "column" in metric["config"]
    ]


def _compared(drift: tuple[dict[str, Any], float, bool], frames: Frames) -> Compared:
    config, score, drifted = drift
    name, threshold = config["column"], float(config["threshold"])
    is_p_value = "p_value" in config["method"]
    found = Found(config["method"], score, score if is_p_value else np.nan, threshold, threshold, drifted)
    return Compared(name, found, *(mean_of(frame[name]) for frame in frames))

"""evaluate.slices and evaluate.measure: slices with readable names, and the importance of columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evaluate.bootstrap import Bootstrap
from evaluate.calibration import Calibration
from evaluate.measure import Assessment, build_report, compute_importance, sample_rows
from evaluate.slices import Slice, build_slices, find_worst_slice
from stepkit.errors import BadParameter
from stepkit.model.metrics import Scored
from stepkit.model.statistics import Interval
from stepkit.settings.evaluate import Costs, Evaluation, Gate, Metric, Slices
from stepkit.table.columns import Column, Columns
from stepkit.table.groups import iter_groups

HOW = Bootstrap(100, 1, 0.95, Costs())
CALIBRATION = Calibration(0.0, 0.0, Interval(0.0, 0.0, 0.0), 400)
SEX = Column(role="categorical", values=[1, 2], label="Sex", labels={1: "male", 2: "female"}, slice_by=True)
COLUMNS = Columns(
    source_target="y", target="y", columns={"SEX": SEX, "AGE": Column(slice_by=[30, 40.5]), "noise": Column()}
)


def list_parts(values: pd.Series, column: Column, bands: list[float]) -> dict[str, list[int]]:
    return {label: np.flatnonzero(mask).tolist() for _, label, mask in iter_groups(values, column, bands)}


def test_codes_have_their_labels_in_the_order_of_the_description() -> None:
    values = pd.Series([2.0, 1.0, 2.0, 7.0, None])
    assert list_parts(values, SEX, []) == {"male": [1], "female": [0, 2], "7": [3], "missing": [4]}


def test_texts_and_missing_texts_are_slices_too() -> None:
    column = Column(type="text", role="categorical", slice_by=True)
    assert list_parts(pd.Series(["car", "", "house", None]), column, []) == {
        "car": [0],
        "house": [2],
        "missing": [1, 3],
    }


def test_a_band_holds_its_lower_limit() -> None:
    values = pd.Series([29, 30, 40, 40.5, 99, None])
    expected = {"below 30": [0], "30 to below 40.5": [1, 2], "40.5 and above": [3, 4], "missing": [5]}
    assert list_parts(values, COLUMNS.columns["AGE"], [30, 40.5]) == expected


@pytest.mark.parametrize(
    "wrong", [{"slice_by": True}, {"slice_by": [40, 30]}, {"role": "categorical", "slice_by": [1, 2]}], ids=str
)
def test_a_description_whose_slices_make_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="slice_by"):
        Column.model_validate(wrong)


def make_scored(count: int = 400) -> tuple[Scored, pd.DataFrame]:
    """Return rows in which AGE predicts the class of men, and nothing predicts the class of women."""
    random = np.random.default_rng(5)
    table = pd.DataFrame({"SEX": 1 + np.arange(count) % 2, "AGE": random.integers(20, 60, count)})
    table["noise"] = random.random(count)
    table["y"] = np.where(table["SEX"] == 1, table["AGE"] > 35, random.random(count) > 0.5).astype(int)
    probability = predict(table)
    return Scored(table["y"].to_numpy(), probability, (probability >= 0.5).astype(int)), table


def predict(rows: pd.DataFrame) -> np.ndarray:
    return (rows["AGE"] / 100).to_numpy()


def test_each_slice_has_counts_metrics_and_intervals_and_the_worst_is_found() -> None:
    scored, table = make_scored()
    slices = build_slices(scored, table, COLUMNS, Slices(), HOW)
    assert [part.label for part in slices[:2]] == ["Sex: male", "Sex: female"]
    men, women = slices[:2]
    assert (men.rows, men.positives) == (200, int(table.loc[table["SEX"] == 1, "y"].sum()))
    assert men.metrics["roc_auc"].value == 1.0
    assert women.metrics["roc_auc"].low < 0.5 < women.metrics["roc_auc"].high
    assert find_worst_slice([men, women], Slices(), "roc_auc") is women


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision", "log_loss", "brier_score"])
def test_the_slice_that_is_reported_as_the_worst_is_no_better_one_where_less_is_better(metric: Metric) -> None:
    scored, table = make_scored()
    men, women = build_slices(scored, table, COLUMNS, Slices(), HOW)[:2]
    assert men.metrics["log_loss"].value < women.metrics["log_loss"].value
    assessed = Assessment(scored, {}, CALIBRATION, [men, women], [])
    report = build_report(assessed, 0.5, Evaluation(gate=Gate(metric=metric)), 1)
    assert report["worst_slice"]["label"] == "Sex: female"


def test_a_slice_without_positives_is_shown_without_what_cannot_be_computed() -> None:
    scored, table = make_scored()
    scored.labels[table["AGE"] < 30] = 0
    young = next(part for part in build_slices(scored, table, COLUMNS, Slices(), HOW) if part.label == "AGE: below 30")
    assert (young.positives, np.isnan(young.metrics["roc_auc"].value)) == (0, True)
    assert np.isfinite(young.metrics["brier_score"].high)
    assert not young.is_judged(Slices())


@pytest.mark.parametrize(
    ("rows", "positives", "judged"), [(30, 5, True), (30, 25, True), (29, 10, False), (30, 4, False), (30, 26, False)]
)
def test_a_slice_is_judged_from_so_many_rows_of_either_class_on(rows: int, positives: int, judged: bool) -> None:
    assert Slice("AGE", "below 30", "", rows, positives, {}).is_judged(Slices()) is judged


def test_the_configuration_chooses_other_slices() -> None:
    scored, table = make_scored()
    slices = build_slices(scored, table, COLUMNS, Slices(columns={"AGE": [50]}), HOW)
    assert [part.value for part in slices] == ["below 50", "50 and above"]
    with pytest.raises(BadParameter, match="the data set has no column WEIGHT"):
        build_slices(scored, table, COLUMNS, Slices(columns={"WEIGHT": []}), HOW)


def test_the_column_that_decides_is_the_most_important_and_one_not_used_is_worth_nothing() -> None:
    scored, table = make_scored()
    importance = compute_importance(predict, table[COLUMNS.names], scored.labels, COLUMNS, seed=1, level=0.95)
    age, *unused = importance
    assert (age.column, age.label) == ("AGE", "AGE")
    assert age.low > 0
    assert [(part.value, part.low, part.high) for part in unused] == [(0.0, 0.0, 0.0)] * 2


def test_a_sample_is_no_larger_than_the_table_and_keeps_its_order() -> None:
    assert sample_rows(4, 10, seed=1).tolist() == [0, 1, 2, 3]
    sampled = sample_rows(1000, 10, seed=1)
    assert (len(set(sampled)), sampled.tolist()) == (10, sorted(sampled))

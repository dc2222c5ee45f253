"""Stability of the test split against the profile of the training rows, and the information values of a training."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluate.stability import NO_PROFILE, build_stability
from stepkit.model.profile import Profile, build_profile
from stepkit.strict_json import to_json
from stepkit.table.columns import Columns
from training.information_value import build_table, compute_all_evidence, plot_information_values

COLUMNS = Columns.model_validate(
    {
        "source_target": "bad",
        "target": "default",
        "columns": {
            "LIMIT": {"label": "Credit limit"},
            "SEX": {"role": "categorical", "labels": {1: "male"}},
            "BANK": {"type": "text", "role": "categorical"},
            "GONE": {"type": "float"},
        },
    }
)


def make_table(rows: int, seed: int, **changes: Any) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    table = {
        "LIMIT": random.integers(1, 1000, rows),
        "SEX": random.choice([1, 2], rows),
        "BANK": "one",
        "GONE": np.nan,
        "default": random.binomial(1, 0.3, rows),
    }
    return pd.DataFrame({**table, **changes})


def make_scores(rows: int, seed: int) -> np.ndarray:
    scores: np.ndarray = np.random.default_rng(seed).beta(3, 7, rows)
    return scores


def make_profile(rows: int = 3000) -> Profile:
    """Return a profile as it is read from its artifact."""
    profile: Profile = json.loads(to_json(build_profile(make_table(rows, 0), COLUMNS, make_scores(rows, 1))))
    return profile


def test_the_test_rows_of_the_same_population_are_below_their_thresholds() -> None:
    stability = build_stability(make_profile(), make_table(1000, 2), make_scores(1000, 3), COLUMNS, 0.95)
    assert (stability["reason"], stability["training_rows"], stability["rows"]) == ("", 3000, 1000)
    assert 0 < stability["psi_score"]["value"] < stability["psi_score"]["threshold"]
    by_name = {index["column"]: index for index in stability["csi"]}
    assert next(iter(by_name)) == "LIMIT"
    assert by_name["LIMIT"]["label"] == "Credit limit"
    assert 0 < by_name["LIMIT"]["value"] < by_name["LIMIT"]["threshold"]
    assert by_name["BANK"]["value"] == by_name["GONE"]["value"] == 0


@pytest.mark.parametrize(
    ("name", "values"), [("LIMIT", 10**6), ("LIMIT", None), ("SEX", 3), ("BANK", "two"), ("GONE", 1.0)]
)
def test_a_column_that_changed_is_above_its_threshold(name: str, values: Any) -> None:
    table = make_table(1000, 2, **{name: values})
    stability = build_stability(make_profile(), table, make_scores(1000, 3), COLUMNS, 0.95)
    (index,) = (index for index in stability["csi"] if index["value"] > index["threshold"])
    assert index["column"] == name
    assert index["value"] > 0.25


def test_without_a_profile_or_enough_rows_there_is_a_reason_instead_of_a_figure() -> None:
    assert build_stability(None, make_table(10, 2), make_scores(10, 3), COLUMNS, 0.95) == {"reason": NO_PROFILE}
    stability = build_stability(make_profile(), make_table(10, 2), make_scores(10, 3), COLUMNS, 0.95)
    assert stability["psi_score"]["value"] is None
    assert stability["psi_score"]["reason"].startswith("too few rows")
    assert [index["column"] for index in stability["csi"]][-1] in {"LIMIT", "SEX"}, "columns without a value are last"


def test_unknown_out_of_sample_scores_are_left_out_of_the_profile() -> None:
    scores = make_scores(3000, 1)
    scores[:100] = np.nan
    assert sum(build_profile(make_table(3000, 0), COLUMNS, scores)["score"]["rows"]) == 2900


@pytest.mark.parametrize("rows", [10, 300])
def test_the_table_of_information_values_has_the_filled_bins_of_every_column(rows: int) -> None:
    table = make_table(rows, 4)
    evidence = compute_all_evidence(table, table["default"].to_numpy(), COLUMNS)
    values = build_table(evidence, COLUMNS)
    assert set(values["column"]) == {*COLUMNS.names}
    assert values.groupby("column")["rows"].sum().eq(rows).all()
    assert values.groupby("column")["defaults"].sum().eq(table["default"].sum()).all()
    assert values["iv_column"].is_monotonic_decreasing
    assert np.isfinite(values.select_dtypes("number")).all(axis=None)
    by_column = values.groupby("column")
    assert (by_column["iv"].sum() - by_column["iv_column"].first()).abs().max() < 1e-12
    assert by_column["iv_column"].first()[["BANK", "GONE"]].tolist() == [0, 0]
    assert "1 (male)" in values["bin"].tolist()
    left, right = plot_information_values(evidence, COLUMNS).axes
    assert [label.get_text() for label in left.get_yticklabels()] == [*evidence]
    assert "SEX: 1 (male)" in [label.get_text() for label in right.get_yticklabels()]


def test_a_column_with_many_codes_is_in_the_table_and_its_bins_are_not_drawn() -> None:
    columns = Columns.model_validate(
        {**COLUMNS.model_dump(), "columns": {"BANK": {"type": "text", "role": "categorical"}}}
    )
    table = make_table(300, 4, BANK=[f"bank {number % 60}" for number in range(300)])
    evidence = compute_all_evidence(table, table["default"].to_numpy(), columns)
    assert len(build_table(evidence, columns)) == 60
    assert not plot_information_values(evidence, columns).axes[1].get_yticklabels()

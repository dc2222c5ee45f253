"""Another table by configuration alone: other columns, another target, text categories, gaps. No code changes."""

from __future__ import annotations

from collections.abc import Callable

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml

from tests.conftest import Ended, Experiment, new_experiment
from tests.support.pipelines import PipelineRuns, run_here, small_forest

ROWS = 900
INCOME = 'income, "net" €'
"""No identifier of any language, as headers of spreadsheets are."""


def loans(seed: int = 3) -> pd.DataFrame:
    """A table of loans whose target can be learned from its text categories and its numbers."""
    draw = np.random.default_rng(seed)
    purpose = draw.choice(["car", "house", "école", "007"], ROWS)
    income = draw.lognormal(10, 0.5, ROWS).round(2)
    risk = (purpose == "car") * 1.5 - (income > np.median(income)) * 1.5 + draw.normal(0, 0.7, ROWS)
    table = pd.DataFrame(
        {
            "loan": [f"L{number:05}" for number in range(ROWS)],
            "purpose": purpose,
            "owner": draw.choice(["yes", "no"], ROWS),
            INCOME: income,
            "children": draw.integers(0, 5, ROWS),
            "outcome": np.where(risk > 0.3, "lost", "repaid"),
        }
    )
    table.loc[::50, INCOME] = np.nan
    table.loc[::70, "purpose"] = None
    return table


TEXT = {"type": "text", "role": "categorical"}
DESCRIPTION = {
    "name": "loans",
    "description": "made by a test",
    "id_column": "loan",
    "duplicates": "drop",
    "source_target": "outcome",
    "target": "bad",
    "negative": "repaid",
    "positive": "lost",
    "stratify": "bad",
    "test_size": 0.25,
    "columns": {
        "purpose": {**TEXT, "values": ["car", "house", "école", "007"], "max_missing": 0.1},
        "owner": {**TEXT, "values": ["yes", "no"]},
        INCOME: {"type": "float", "min": 0, "max_missing": 0.05},
        "children": {"min": 0},
    },
}


@pytest.fixture(scope="module")
def place(store: str, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    mlflow.set_tracking_uri(store)
    return new_experiment("another table", tmp_path_factory.mktemp("loans"))


@pytest.fixture(scope="module")
def run(place: Experiment, tmp_path_factory: pytest.TempPathFactory) -> PipelineRuns:
    folder = tmp_path_factory.mktemp("description")
    loans().to_csv(folder / "loans.csv", index=False)
    (folder / "data").mkdir()
    described = {**DESCRIPTION, "file_url": str(folder / "loans.csv")}
    (folder / "data" / "loans.yaml").write_text(yaml.safe_dump(described, allow_unicode=True))
    here = run_here(place, f"hydra.searchpath=[file://{folder}]", "data=loans", *small_forest())
    assert here.error is None, here.said
    return here.runs


def test_the_whole_pipeline_ends_in_a_champion(place: Experiment, run: PipelineRuns) -> None:
    assert len(run.steps) == 7
    assert place.client.get_model_version_by_alias(place.id_name, "champion").version in (1, "1")


def test_classes_become_0_and_1(place: Experiment, run: PipelineRuns) -> None:
    clean = run.table(place, "preprocess", "preprocessed_data.csv")
    expected = (loans().drop(columns="loan").drop_duplicates()["outcome"] == "lost").astype(int)
    assert (clean["bad"].to_numpy() == expected.to_numpy()).all()


def test_target_was_learned(run: PipelineRuns) -> None:
    assert run.steps["evaluate"].data.metrics["test_roc_auc"] > 0.8


def test_model_answers_text_categories_as_a_caller_has_them(run: PipelineRuns) -> None:
    model = mlflow.pyfunc.load_model(f"runs:/{run.steps['random_forest'].info.run_id}/model_export")
    rows = loans().drop(columns=["loan", "outcome"]).head(3).astype({"children": float})
    rows.loc[0, "purpose"] = "never seen"
    assert model.predict(rows)["probability"].between(0, 1).all()


def test_unknown_data_set_is_named_with_those_that_exist(place: Experiment, main_here: Callable[..., Ended]) -> None:
    ended = main_here(place, "data=loans")
    assert ended.status == 2
    assert "loans" in ended.message
    assert "sample" in ended.message

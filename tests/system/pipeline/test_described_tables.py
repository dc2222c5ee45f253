"""Tables of other shapes, brought as docs/bring-a-table.md describes: draft, run, no code changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn import datasets

from download.describe import main as describe
from simulate.loans import simulate_loans
from stepkit.table.columns import Columns, read_columns
from tests.conftest import Experiment, StepResult, create_experiment
from tests.support.pipelines import PipelineRuns, make_small_forest, run_here

INCOME = 'income, "net" €'


def load_breast_cancer() -> pd.DataFrame:
    """Return 569 rows with 30 numbers whose names have spaces; the target is 0 or 1."""
    table: pd.DataFrame = datasets.load_breast_cancer(as_frame=True).frame
    return table


def load_wine() -> pd.DataFrame:
    """Return 178 rows, with one of three classes against the others; the target is text."""
    table: pd.DataFrame = datasets.load_wine(as_frame=True).frame
    return table.assign(target=(table["target"] == 1).map({True: "yes", False: "no"}))


def make_odd() -> pd.DataFrame:
    """Return 900 rows with a column name full of special characters, and missing numbers and texts."""
    draw, rows = np.random.default_rng(3), 900
    purpose, income = draw.choice(["car", "house", "école", "007"], rows), draw.lognormal(10, 0.5, rows).round(2)
    risk = (purpose == "car") * 1.5 - (income > np.median(income)) * 1.5 + draw.normal(0, 0.7, rows)
    numbers = [f"L{number:05}" for number in range(rows)]
    table = pd.DataFrame({"loan id": numbers, "purpose": purpose, INCOME: income, "outcome": risk > 0.3})
    table.loc[::50, INCOME] = np.nan
    table.loc[::70, "purpose"] = None
    return table.assign(outcome=table["outcome"].map({True: "lost", False: "repaid"}))


def make_loan_book() -> pd.DataFrame:
    """Return 1,200 loans of 24 months with four statuses; more of the newest ones are not finished."""
    draw, rows = np.random.default_rng(11), 1200
    month = draw.integers(0, 24, rows)
    issued = pd.date_range("2014-01-01", periods=24, freq="MS").strftime("%b-%Y").to_numpy()[month]
    rate = draw.normal(12, 3, rows).round(2)
    lost = draw.random(rows) < 1 / (1 + np.exp(1.2 - 0.5 * (rate - 12)))
    status = np.where(lost, draw.choice(["Charged Off", "Default"], rows, p=[0.8, 0.2]), "Fully Paid")
    status = np.where(draw.random(rows) < 0.01 * month, "Current", status)
    return pd.DataFrame(
        {"amount": draw.integers(1, 36, rows) * 1000, "rate": rate, "issue_d": issued, "status": status}
    )


TABLES: dict[str, tuple[Callable[[], pd.DataFrame], str, list[str], float]] = {
    "loans": (lambda: simulate_loans(5000, 42), "outcome", ["customer", "letter"], 0.7),
    "breast_cancer": (load_breast_cancer, "target", [], 0.95),
    "wine": (load_wine, "target", [], 0.9),
    "odd": (make_odd, "outcome", [], 0.8),
}
"""Function, target, columns that the draft leaves out, and least AUC of a small forest, for each table."""


@dataclass
class Brought:
    """Table that went through the pipeline, with its results."""

    table: pd.DataFrame
    columns: Columns
    place: Experiment
    runs: PipelineRuns
    left_out: list[str]
    least_auc: float


@pytest.fixture(scope="module", params=TABLES)
def brought(request: pytest.FixtureRequest, store: str, tmp_path_factory: pytest.TempPathFactory) -> Brought:
    name = str(request.param)
    make, target, left_out, least = TABLES[name]
    folder = tmp_path_factory.mktemp(name)
    (folder / "data").mkdir()
    make().to_csv(folder / f"{name}.csv", index=False)
    describe(
        ["--file_url", str(folder / f"{name}.csv"), "--target", target, "--output", str(folder / f"data/{name}.yaml")]
    )
    mlflow.set_tracking_uri(store)
    place = create_experiment(f"described {name}", folder)
    result = run_here(place, f"hydra.searchpath=[file://{folder}]", f"data={name}", *make_small_forest())
    assert result.error is None, result.said
    columns = read_columns(folder / f"data/{name}.yaml")
    return Brought(pd.read_csv(folder / f"{name}.csv"), columns, place, result.runs, left_out, least)


def test_the_draft_keeps_what_a_model_can_take(brought: Brought) -> None:
    columns = brought.columns
    described = {*columns.names, columns.source_target, columns.id_column, columns.time_column}
    assert [name for name in brought.table.columns if name not in described] == brought.left_out


def test_the_model_is_champion_and_has_learned(brought: Brought) -> None:
    assert len(brought.runs.steps) == 7
    champion = brought.place.client.get_model_version_by_alias(brought.place.id_name, "champion")
    assert champion.run_id == brought.runs.steps["random_forest"].info.run_id
    assert brought.runs.steps["evaluate"].data.metrics["test_roc_auc"] > brought.least_auc


def test_classes_become_0_and_1(brought: Brought) -> None:
    columns = brought.columns
    raw = brought.table[[*columns.names, columns.source_target]]
    raw = raw.drop_duplicates() if columns.duplicates == "drop" else raw
    clean = brought.runs.table(brought.place, "preprocess", "preprocessed_data.csv")
    labels = raw[columns.source_target].astype(str) == str(columns.positive)
    assert clean[columns.target].tolist() == labels.astype(int).tolist()


def test_unknown_data_set_is_named_with_those_that_exist(
    experiment: Experiment, main_here: Callable[..., StepResult]
) -> None:
    ended = main_here(experiment, "data=smaple")
    assert ended.status == 2
    assert "data: no option 'smaple'; did you mean 'sample' (found: " in ended.message


def test_the_model_takes_rows_as_the_table_has_them(brought: Brought) -> None:
    model = mlflow.pyfunc.load_model(f"models:/{brought.place.id_name}@champion")
    columns = brought.columns
    rows = brought.table[columns.names].head(50)
    numbers = [name for name in columns.names if pd.api.types.is_numeric_dtype(rows[name])]
    rows = rows.astype(dict.fromkeys(numbers, float))
    if columns.text:
        rows.loc[0, columns.text[0]] = "never seen"
    answer = model.predict(rows)
    assert list(answer.columns) == ["probability", "class"]
    assert answer["probability"].between(0, 1).tolist() == [True] * 50


def test_the_page_of_the_run_opens_with_the_names_of_the_table(brought: Brought, tmp_path: Path) -> None:
    client = brought.place.client
    page = Path(client.download_artifacts(brought.runs.parent.info.run_id, "report.md", str(tmp_path)))
    assert brought.columns.source_target in page.read_text(encoding="utf-8")


def test_a_loan_book_is_tested_on_its_newest_finished_loans(store: str, tmp_path: Path) -> None:
    book = make_loan_book()
    book.to_csv(tmp_path / "book.csv", index=False)
    draft = tmp_path / "data/book.yaml"
    draft.parent.mkdir()
    flags = ["--target", "status", "--positive", "Charged Off,Default", "--output", str(draft)]
    describe(["--file_url", str(tmp_path / "book.csv"), *flags])
    draft.write_text(draft.read_text(encoding="utf-8").replace(", Current]", "]"), encoding="utf-8")
    mlflow.set_tracking_uri(store)
    place = create_experiment("loan book", tmp_path)
    options = (f"hydra.searchpath=[file://{tmp_path}]", "data=book", "data.split=time", *make_small_forest())
    result = run_here(place, *options)
    assert result.error is None, result.said

    current = int((book["status"] == "Current").sum())
    kept = result.runs.table(place, "preprocess", "preprocessed_data.csv")
    assert len(kept) == len(book) - current
    assert kept["status"].sum() == book["status"].isin(["Charged Off", "Default"]).sum()
    train, test = (result.runs.table(place, "segregate", f"data/data_{part}.csv") for part in ("train", "test"))
    assert train["issue_d"].max() < test["issue_d"].min()
    assert len(test) / len(kept) == pytest.approx(0.3, abs=0.05)
    model = mlflow.pyfunc.load_model(result.runs.steps["random_forest"].data.tags["model_uri"])
    assert model.metadata.get_input_schema().input_names() == ["amount", "rate"]

    evaluation = json.loads(result.runs.artifact(place, "evaluate", "evaluation.json").read_text(encoding="utf-8"))
    assert sum(period["rows"] for period in evaluation["periods"]["periods"]) == len(test)
    parent = result.runs.parent.info.run_id
    page = Path(place.client.download_artifacts(parent, "report.md", str(tmp_path))).read_text(encoding="utf-8")
    assert f"{current} rows: Current ({current}x)" in page
    validation = result.runs.steps["random_forest"].data.tags["split_dates"]
    assert f'"last": "{train["issue_d"].max()}"' in validation
    assert f"| test | {len(test)} | {test['issue_d'].min()} | {test['issue_d'].max()} | 0 |" in page
    assert "ROC AUC per month: " in page

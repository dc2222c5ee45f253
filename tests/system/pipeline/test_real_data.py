"""The pipeline on the real data, run twice from the command line, and all of its results."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import skops.io
import yaml
from mlflow.pyfunc import PyFuncModel
from sklearn.ensemble import RandomForestClassifier

from pipeline.steps import list_steps
from stepkit.paths import ROOT
from tests.conftest import Experiment, create_experiment, run_command
from tests.support.forkserver_script import run_warm
from tests.support.pipelines import PipelineRuns, list_pipelines, run_here
from training.export import TRUSTED_TYPES
from training.pipeline import get_classifier

MODEL = "credit_default_real"
STEPS = list_steps("random_forest")


@pytest.fixture(scope="module")
def place(store: str, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return create_experiment("real data", tmp_path_factory.mktemp("real"))


@pytest.fixture(scope="module")
def first(place: Experiment, real_data: Path) -> subprocess.CompletedProcess[str]:
    """Result of `mlflow run .` on the real data."""
    relative = os.path.relpath(real_data, ROOT)
    options = f"data=uci data.file_url={relative} register.model_name={MODEL}"
    where = ["--env-manager", "local", "--experiment-name", place.name]
    return run_command("mlflow", "run", ".", *where, "-P", f"hydra_options={options}")


@pytest.fixture(scope="module")
def run(place: Experiment, first: subprocess.CompletedProcess[str]) -> PipelineRuns:
    assert first.returncode == 0, first.stdout + first.stderr
    return list_pipelines(place)[0]


@pytest.fixture(scope="module")
def again(place: Experiment, real_data: Path, run: PipelineRuns) -> PipelineRuns:
    """Second pipeline run, without `mlflow run` and without reuse."""
    options = ["main.reuse=false", "data=uci", f"data.file_url={real_data}", f"register.model_name={MODEL}"]
    result = run_here(place, *options)
    assert result.error is None, result.said
    return result.runs


@pytest.fixture(scope="module")
def test_split(place: Experiment, run: PipelineRuns) -> pd.DataFrame:
    return run.table(place, "segregate", "data/data_test.csv")


@pytest.fixture(scope="module")
def model(run: PipelineRuns) -> PyFuncModel:
    loaded: PyFuncModel = mlflow.pyfunc.load_model(f"runs:/{run.steps['random_forest'].info.run_id}/model_export")
    return loaded


def predict_here(model: PyFuncModel, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the predictions of the model in this process."""
    return pd.DataFrame(model.predict(rows))


def test_preprocess_drops_the_35_duplicates_and_the_split_is_stratified(
    place: Experiment, run: PipelineRuns, test_split: pd.DataFrame
) -> None:
    clean = run.table(place, "preprocess", "preprocessed_data.csv")
    assert len(clean) == 29_965
    assert list(clean.columns)[-1] == "default"
    assert "ID" not in clean
    train = run.table(place, "segregate", "data/data_train.csv")
    assert (len(train), len(test_split)) == (20_975, 8_990)
    assert round(train["default"].mean(), 3) == round(test_split["default"].mean(), 3)


def test_auc_is_that_of_the_older_system_and_the_same_again_to_the_last_digit(
    run: PipelineRuns, again: PipelineRuns
) -> None:
    first, second = (pipeline.steps["evaluate"].data.metrics for pipeline in (run, again))
    assert first["test_roc_auc"] >= 0.768
    for name in ("test_roc_auc", "test_log_loss", "test_brier_score"):
        assert first[name] == second[name]


def test_the_information_values_are_the_known_ones_and_the_splits_are_one_population(
    place: Experiment, run: PipelineRuns
) -> None:
    values = run.table(place, "random_forest", "iv.csv").groupby("column", sort=False)["iv_column"].first()
    assert values.index[0] == "PAY_0"
    assert values["PAY_0"] == pytest.approx(0.88, abs=0.02)
    assert len(values) == 23
    evaluate_id = run.steps["evaluate"].info.run_id
    stability = mlflow.artifacts.load_dict(f"runs:/{evaluate_id}/evaluation.json")["stability"]
    for index in (stability["psi_score"], *stability["csi"]):
        assert index["value"] < 0.1


def test_the_credit_sheet_has_the_known_figures_of_the_real_table(place: Experiment, run: PipelineRuns) -> None:
    """Compare with a forest fitted outside of this repository: Gini 0.5415, KS 0.4026, 67.4 % in the top decile."""
    credit = json.loads(run.artifact(place, "evaluate", "evaluation.json").read_text())["credit"]
    assert credit["gini"]["value"] == pytest.approx(2 * run.steps["evaluate"].data.metrics["test_roc_auc"] - 1)
    assert [credit["gini"]["value"], credit["ks"]["value"]] == pytest.approx([0.5415, 0.4026], abs=0.02)
    riskiest = credit["gains"][0]
    figures = [riskiest["default_rate"], riskiest["lift"], riskiest["capture"]]
    assert figures == pytest.approx([0.674, 3.05, 0.305], rel=0.04)


def test_every_step_is_nested_under_one_pipeline_run(run: PipelineRuns) -> None:
    assert set(run.steps) == {step.name for step in STEPS}
    assert run.parent.data.tags["mlflow.source.type"] == "PROJECT"
    assert all(step.info.status == "FINISHED" for step in [run.parent, *run.steps.values()])


def test_every_run_names_its_commit(run: PipelineRuns) -> None:
    head = run_command("git", "rev-parse", "HEAD")
    if head.returncode:
        pytest.skip("this checkout is not a git repository")
    for any_run in [run.parent, *run.steps.values()]:
        assert any_run.data.tags["mlflow.source.git.commit"] == head.stdout.strip()


def test_pipeline_run_holds_the_resolved_configuration(place: Experiment, run: PipelineRuns) -> None:
    text = mlflow.artifacts.load_text(f"runs:/{run.parent.info.run_id}/config/config.yaml")
    config = yaml.safe_load(text)
    assert config["data"]["name"] == "uci"
    assert config["data"]["stratify"] == "default"
    assert config["random_forest_pipeline"]["random_forest"]["max_depth"] == 13


def test_inputs_are_datasets_with_name_digest_and_source_and_exact_run_ids(run: PipelineRuns) -> None:
    datasets = {name: [*step.inputs.dataset_inputs] for name, step in run.steps.items() if step.inputs}
    assert {"download", "preprocess", "check_data", "segregate", "evaluate"} <= {
        name for name in datasets if datasets[name]
    }
    (train,) = datasets["random_forest"]
    segregate = run.steps["segregate"]
    assert train.dataset.name == "data/data_train.csv"
    assert json.loads(train.dataset.source) == {"uri": f"runs:/{segregate.info.run_id}/data/data_train.csv"}
    recorded = segregate.data.tags["output.data/data_train.csv"].removeprefix("sha256:")
    assert recorded.startswith(train.dataset.digest)
    ids = {name: step.info.run_id for name, step in run.steps.items()}
    evaluate = run.steps["evaluate"].data
    assert evaluate.tags["input.model_export"] == f"runs:/{ids['random_forest']}/model_export"
    assert evaluate.tags["input.data/data_test.csv"] == f"runs:/{ids['segregate']}/data/data_test.csv"
    assert evaluate.params["input_model_run_id"] == ids["random_forest"]


def test_only_the_newest_run_of_a_step_is_current(place: Experiment, again: PipelineRuns) -> None:
    for step in STEPS:
        assert [current.info.run_id for current in place.current(step.name)] == [again.steps[step.name].info.run_id]


def test_first_run_says_that_there_is_no_reference(run: PipelineRuns, again: PipelineRuns) -> None:
    first, second = (pipeline.steps["check_data"].data.tags["summary"] for pipeline in (run, again))
    assert "KS tests skipped (no reference: no champion yet)" in first
    assert "was trained on the same data" in second


def test_registered_version_tells_where_it_comes_from(place: Experiment, run: PipelineRuns) -> None:
    version = place.client.get_model_version(MODEL, "1")
    assert version.tags["pipeline_run_id"] == run.parent.info.run_id
    assert version.tags["data_digest"] == run.steps["segregate"].data.tags["output.data/data_train.csv"]
    assert float(version.tags["test_auc"]) == pytest.approx(
        run.steps["evaluate"].data.metrics["test_roc_auc"], abs=1e-6
    )
    assert "ROC AUC" in str(version.description)
    assert version.tags["git_commit"] == run.parent.data.tags.get("mlflow.source.git.commit", "unknown")


def test_equal_model_becomes_challenger_and_the_champion_stays(place: Experiment, again: PipelineRuns) -> None:
    assert again.steps["evaluate"].data.tags["verdict"] == "as_good"
    registered = place.client.get_registered_model(MODEL)
    aliases = {name: str(version) for name, version in registered.aliases.items()}
    assert aliases == {"champion": "1", "challenger": "2"}


SERVE = 'make serve options="model_name=credit_default_real"'


def test_terminal_shows_a_line_per_step_and_the_closing_table(first: subprocess.CompletedProcess[str]) -> None:
    for step in STEPS:
        assert f"{step.name:<14}  done in" in first.stdout
    for words in ("AUC 0.77", "verdict", "credit_default_real version 1", "mlflow ui", "mlflow models serve", SERVE):
        assert words in first.stdout
    assert "Warning" not in first.stdout + first.stderr
    assert "Traceback" not in first.stdout + first.stderr


def test_model_takes_gaps_and_unknown_codes(model: PyFuncModel, test_split: pd.DataFrame) -> None:
    rows = test_split.drop(columns="default").head(4).astype(float)
    rows.loc[0, "AGE"] = np.nan
    rows.loc[1, "EDUCATION"] = 99
    rows.loc[2, :] = np.nan
    assert predict_here(model, rows)["probability"].between(0, 1).all()


def test_model_is_loaded_without_unpickling(run: PipelineRuns) -> None:
    """The process raises an error if pickle looks up a class."""
    code = """
import sys, mlflow
def refuse(event, args):
    if event == "pickle.find_class":
        raise RuntimeError(f"unpickled {args}")
uri = sys.argv[1]
path = mlflow.artifacts.download_artifacts(uri)
import mlflow.pyfunc, onnxruntime, pandas
sys.addaudithook(refuse)
print(mlflow.pyfunc.load_model(path).metadata.signature is not None)
"""
    uri = f"runs:/{run.steps['random_forest'].info.run_id}/model_export"
    status, output = run_warm(code, uri)
    assert status == 0, output
    assert output.strip().endswith("True")


def test_scikit_learn_pipeline_lies_beside_the_graph(run: PipelineRuns) -> None:
    folder = Path(mlflow.artifacts.download_artifacts(f"runs:/{run.steps['random_forest'].info.run_id}/model_export"))
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pickle", ".joblib")]
    pipeline = skops.io.load(folder / "artifacts" / "model.skops", trusted=TRUSTED_TYPES)
    assert isinstance(get_classifier(pipeline), RandomForestClassifier)


def test_predict_json_on_the_input_example_equals_in_process(
    run: PipelineRuns, model: PyFuncModel, tmp_path: Path
) -> None:
    answer = run_mlflow_predict(run, fetch_model_file(run, "serving_input_example.json"), "json", tmp_path)
    assert isinstance(model.input_example, pd.DataFrame)
    expected = predict_here(model, model.input_example)
    assert np.allclose(answer["probability"], expected["probability"], atol=0, rtol=0)


def test_predict_csv_on_the_test_split_equals_in_process(
    place: Experiment, run: PipelineRuns, model: PyFuncModel, test_split: pd.DataFrame, tmp_path: Path
) -> None:
    answer = run_mlflow_predict(run, run.artifact(place, "segregate", "data/data_test.csv"), "csv", tmp_path)
    expected = predict_here(model, test_split.astype(float))
    assert len(answer) == 8_990
    assert (answer["probability"].to_numpy() == expected["probability"].to_numpy()).all()
    assert (answer["class"].to_numpy() == expected["class"].to_numpy()).all()


def fetch_model_file(run: PipelineRuns, name: str) -> Path:
    uri = f"runs:/{run.steps['random_forest'].info.run_id}/model_export/{name}"
    return Path(mlflow.artifacts.download_artifacts(uri))


def run_mlflow_predict(run: PipelineRuns, file: Path, content: str, folder: Path) -> pd.DataFrame:
    """Run `mlflow models predict` on a file; return the predictions as a table."""
    uri = f"runs:/{run.steps['random_forest'].info.run_id}/model_export"
    output = folder / "answer.json"
    words = ["mlflow", "models", "predict", "-m", uri, "--env-manager", "local", "-t", content]
    ended = run_command(*words, "-i", str(file), "-o", str(output))
    assert ended.returncode == 0, ended.stderr
    return pd.DataFrame(json.loads(output.read_text())["predictions"])

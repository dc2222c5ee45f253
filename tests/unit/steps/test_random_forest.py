"""Model steps: the pipeline of each kind of model, its ONNX graph, and the scikit-learn file next to it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModelContext
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

import gradient_boosting.run
import logistic_regression.run
from random_forest.run import KIND
from stepkit.errors import BadParameter, ExportUnequal
from stepkit.paths import ROOT
from stepkit.settings.model import (
    Boosting,
    Features,
    Forest,
    GradientBoostingSettings,
    LogisticRegressionSettings,
    ModelSettings,
    RandomForestSettings,
)
from stepkit.table.columns import Column, Columns
from stepkit.table.tables import to_model_input
from training.export import (
    TRUSTED_TYPES,
    compute_largest_difference,
    list_requirements,
    make_signature,
    verify_equal,
)
from training.kind import ModelKind
from training.onnx_graph import PROBABILITIES, to_graph
from training.pipeline import ENCODE, compute_importances, select_features
from training.served_model import Predictor, compute_probabilities
from training.step import read_model_settings

MIXED = Columns(
    source_target="default",
    target="default",
    columns={
        "purpose": Column(type="text", role="categorical"),
        "AGE": Column(),
        "SEX": Column(role="categorical"),
        "amount": Column(type="float"),
    },
)
Table = tuple[Columns, pd.DataFrame, pd.DataFrame]
SETTINGS = RandomForestSettings(calibration="none", random_forest=Forest(n_estimators=7, max_depth=4, n_jobs=1))

KINDS: dict[str, tuple[ModelKind, ModelSettings]] = {
    "random_forest": (KIND, SETTINGS),
    "gradient_boosting": (
        gradient_boosting.run.KIND,
        GradientBoostingSettings(gradient_boosting=Boosting(max_iter=7, min_samples_leaf=1), calibration="none"),
    ),
    "logistic_regression": (logistic_regression.run.KIND, LogisticRegressionSettings(calibration="none")),
}
"""Each kind of model, with settings that fit a few rows."""

TRAINING = pd.DataFrame(
    {
        "purpose": ["car", "house", None, "car", "boat", "house"],
        "AGE": [24, 57, None, 45, 31, 62],
        "SEX": [1, 2, 2, None, 1, 2],
        "amount": [1.5, 2e6, 3.25, None, 7.0, 0.1],
        "default": [1, 0, 1, 0, 1, 0],
    }
)
LABELS = TRAINING["default"].to_numpy()

UNSEEN = pd.DataFrame(
    {
        "purpose": ["rocket", None, "car", ""],
        "AGE": [None, 200, 30, -1],
        "SEX": [9, None, 1, 2],
        "amount": [None, 1e9, None, 0.0],
    }
)
"""Rows with unknown codes, unknown texts, missing values and extreme values."""


def fit_model(seed: int = 42, settings: RandomForestSettings = SETTINGS) -> Pipeline:
    return KIND.fit(settings, MIXED, to_model_input(TRAINING, MIXED), LABELS, seed)


def fit_kind(kind: str, columns: Columns = MIXED, training: pd.DataFrame = TRAINING) -> Pipeline:
    model_kind, settings = KINDS[kind]
    return model_kind.fit(settings, columns, to_model_input(training, columns), LABELS, 42)


@pytest.fixture(scope="module")
def model() -> Pipeline:
    return fit_model()


@pytest.fixture(scope="module")
def predictor(model: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    settings = tmp_path_factory.mktemp("model") / "settings.json"
    settings.write_text(json.dumps({"columns": MIXED.names, "text": MIXED.text, "threshold": 0.5}))
    graph = write_graph(model, MIXED, settings.parent)
    loaded = Predictor()
    loaded.load_context(PythonModelContext({"onnx": str(graph), "settings": str(settings)}, {}))
    return loaded


def write_graph(model: Pipeline, columns: Columns, folder: Path) -> Path:
    graph = folder / "model.onnx"
    graph.write_bytes(to_graph(model, columns.names, columns.text).SerializeToString())
    return graph


def measure_difference(model: Pipeline, rows: pd.DataFrame, columns: Columns, folder: Path) -> float:
    """Convert a fitted pipeline; return the largest difference between graph and pipeline."""
    return compute_largest_difference(model, write_graph(model, columns, folder), rows, columns.names, columns.text)


def predict(predictor: Predictor, rows: pd.DataFrame) -> pd.DataFrame:
    return predictor.predict(PythonModelContext({}, {}), rows)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [TRAINING, UNSEEN], ids=["training rows", "unknown codes and gaps"])
def test_the_graph_answers_as_scikit_learn_does(rows: pd.DataFrame, kind: str, tmp_path: Path) -> None:
    assert measure_difference(fit_kind(kind), to_model_input(rows, MIXED), MIXED, tmp_path) < 1e-6


@pytest.mark.parametrize("code", [1.5, 0.5, -0.5, 1.0001, -1.0, 1e10, np.inf, -np.inf])
def test_a_number_that_is_not_a_code_is_an_unknown_code(predictor: Predictor, code: float) -> None:
    rows = to_model_input(TRAINING, MIXED)
    of_unknown, prediction, of_code_1 = (predict(predictor, rows.assign(SEX=value)) for value in (9.0, code, 1.0))
    assert prediction.equals(of_unknown)
    assert not prediction.equals(of_code_1)


@pytest.mark.parametrize("answered", [np.nan, 1.1, -0.1, np.inf, 1 + 1e-5])
def test_the_predictor_returns_probabilities_or_fails(answered: float) -> None:
    with pytest.raises(MlflowException, match="not a number from 0 to 1") as caught:
        compute_probabilities(make_session([0.5, answered]), {})
    assert caught.value.get_http_status_code() == 500


def test_the_last_digits_of_a_sum_may_leave_the_range_of_probabilities() -> None:
    assert compute_probabilities(make_session([1 + 9e-7, -9e-7]), {}).tolist() == [1.0, 0.0]


def make_session(values: list[float]) -> Any:
    """Return a stand-in for an ONNX Runtime session of a graph that returns these probabilities."""
    return SimpleNamespace(run=lambda names, inputs: [np.array([[np.nan, value] for value in values])])


def test_the_graph_takes_one_named_input_per_column_in_the_data_sets_order(model: Pipeline) -> None:
    graph = to_graph(model, MIXED.names, MIXED.text)
    assert [node.name for node in graph.graph.input] == ["purpose", "AGE", "SEX", "amount"]


ODD_NAMES = {
    "purpose": "what for, and why?",
    "AGE": "label",  # the name of the graph's other output
    "SEX": "a b",
    "amount": "a_b",  # skl2onnx's name for the column above
}


@pytest.mark.parametrize("classifier", [GradientBoostingClassifier(n_estimators=5), LogisticRegression()])
def test_another_kind_of_classifier_is_exported_by_its_own_converter(
    tmp_path: Path, classifier: GradientBoostingClassifier | LogisticRegression
) -> None:
    rows = to_model_input(TRAINING, MIXED)
    model = Pipeline([(ENCODE, fit_model().named_steps[ENCODE]), ("classifier", classifier)])
    assert measure_difference(model.fit(rows, TRAINING["default"]), rows, MIXED, tmp_path) < 1e-5


def test_a_column_with_the_name_of_the_answer_is_refused() -> None:
    with pytest.raises(BadParameter, match=PROBABILITIES):
        to_graph(fit_model(), [PROBABILITIES, "AGE"], [])


def test_a_graph_of_another_model_is_refused(model: Pipeline, tmp_path: Path) -> None:
    graph, rows = write_graph(fit_model(seed=1), MIXED, tmp_path), to_model_input(TRAINING, MIXED)
    with pytest.raises(ExportUnequal, match=r"differ from scikit-learn by up to .* on 6 validation rows"):
        verify_equal(compute_largest_difference(model, graph, rows, MIXED.names, MIXED.text), 6)


@pytest.mark.parametrize("difference", [1e-5, 1.0, float("nan")])
def test_a_difference_at_the_limit_or_not_a_number_is_refused(difference: float) -> None:
    verify_equal(9.9e-6, 6)  # of float sums
    with pytest.raises(ExportUnequal):
        verify_equal(difference, 6)


def test_the_predictor_answers_with_probability_and_class(model: Pipeline, predictor: Predictor) -> None:
    rows = to_model_input(TRAINING, MIXED).set_axis(range(10, 16))
    predictions, expected = predict(predictor, rows), model.predict_proba(rows)[:, 1]
    assert list(predictions) == ["probability", "class"]
    assert predictions.index.tolist() == rows.index.tolist()
    assert predictions["probability"].to_numpy() == pytest.approx(expected, abs=1e-6)
    assert predictions["class"].tolist() == (expected >= 0.5).astype(int).tolist()


def test_the_class_follows_the_models_threshold(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = to_model_input(TRAINING, MIXED)
    for threshold, classes in ((0.0, {1}), (1.1, {0})):
        monkeypatch.setattr(predictor, "threshold", threshold)
        assert set(predict(predictor, rows)["class"]) == classes


def test_the_predictor_takes_whole_numbers_gaps_and_any_order_of_columns(predictor: Predictor) -> None:
    rows = TRAINING.astype({"AGE": "Int64", "SEX": "Int64", "purpose": "string"})[["amount", "SEX", "AGE", "purpose"]]
    pd.testing.assert_frame_equal(predict(predictor, rows), predict(predictor, to_model_input(TRAINING, MIXED)))


def test_one_row_gets_the_answer_that_it_gets_among_others(predictor: Predictor) -> None:
    rows = to_model_input(UNSEEN, MIXED)
    alone = [predict(predictor, rows.iloc[[row]]) for row in range(len(rows))]
    pd.testing.assert_frame_equal(pd.concat(alone), predict(predictor, rows))


def test_the_signature_is_of_doubles_and_texts() -> None:
    signature = make_signature(["purpose", "AGE"], ["purpose"])
    assert {column.name: column.type.name for column in signature.inputs} == {"purpose": "string", "AGE": "double"}
    assert signature.outputs.input_names() == ["probability", "class"]


def test_requirements_are_exact() -> None:
    assert all(line.count("==") == 1 for line in list_requirements())
    assert {line.split("==")[0] for line in list_requirements()} == {"mlflow", "numpy", "pandas", "onnxruntime"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_inspection_file_loads_with_types_of_numpy_and_scikit_learn_only(kind: str, tmp_path: Path) -> None:
    model, file = fit_kind(kind), tmp_path / "model.skops"
    skops.io.dump(model, file)
    assert set(skops.io.get_untrusted_types(file=file)) <= set(TRUSTED_TYPES)
    assert {name.split(".")[0] for name in TRUSTED_TYPES} == {"numpy", "sklearn"}
    loaded = skops.io.load(file, trusted=TRUSTED_TYPES)
    rows = to_model_input(TRAINING, MIXED)
    np.testing.assert_array_equal(loaded.predict_proba(rows), model.predict_proba(rows))


def test_no_type_is_trusted_in_vain(tmp_path: Path) -> None:
    forest = SETTINGS.model_copy(update={"calibration": "sigmoid"})
    many = pd.concat([TRAINING] * 10)
    calibrated = KIND.fit(forest, MIXED, to_model_input(many, MIXED), many["default"].to_numpy(), 42)
    required: set[str] = set()
    for model in (calibrated, fit_kind("gradient_boosting")):
        skops.io.dump(model, tmp_path / "model.skops")
        required |= set(skops.io.get_untrusted_types(file=tmp_path / "model.skops"))
    assert required == set(TRUSTED_TYPES)


def test_the_same_seed_gives_the_same_forest() -> None:
    rows = to_model_input(TRAINING, MIXED)
    np.testing.assert_array_equal(fit_model(3).predict_proba(rows), fit_model(3).predict_proba(rows))


def make_table(column: Column, fitted_on: list[Any], later_values: list[Any], name: str = "bonus") -> Table:
    """Return a data set with an additional column, or another SEX, its training rows, and later rows."""
    columns = MIXED.model_copy(update={"columns": {**MIXED.columns, name: column}})
    training, later = (
        TRAINING.assign(**{name: pd.Series(values, dtype=object)}) for values in (fitted_on, later_values)
    )
    return columns, training, later


def rename_columns() -> Table:
    columns = {ODD_NAMES[name]: column for name, column in MIXED.columns.items()}
    rows = TRAINING.rename(columns=ODD_NAMES)
    return MIXED.model_copy(update={"columns": columns}), rows, rows


CODE, FRACTION = Column(role="categorical"), Column(type="float", role="categorical")
TEXT = Column(type="text", role="categorical")
TABLES = {
    "no numbers": make_table(Column(), [None] * 6, [None, 5, None, 1, 2, 3]),
    "no codes": make_table(CODE, [None] * 6, [None, 5, None, 0, 2, 3]),
    "no texts": make_table(TEXT, [None] * 6, [None, "x", "", "y", None, "z"]),
    "one number": make_table(Column(), [7] * 6, [None, 5, 7, 1, 2, 3]),
    "one code": make_table(CODE, [7] * 6, [None, 5, 7, 1, 2, 3]),
    "codes with fractions": make_table(FRACTION, [0.1, 2.5, 2.5, 0.1, None, 7.0], [2.5, 2.4, 0.1, 2, 7, None], "SEX"),
    "odd names": rename_columns(),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TABLES)
def test_any_described_table_can_be_exported(tmp_path: Path, name: str, kind: str) -> None:
    columns, training, later = TABLES[name]
    model = fit_kind(kind, columns, training)
    for rows in (training, later):
        assert measure_difference(model, to_model_input(rows, columns), columns, tmp_path) < 1e-6


def test_a_column_may_be_called_like_a_code_of_another() -> None:
    columns = Columns(source_target="y", target="y", columns={"SEX": Column(role="categorical"), "SEX_1.0": Column()})
    rows = pd.DataFrame({"SEX": [1.0, 2.0] * 3, "SEX_1.0": [1.0, 2.0, 3.0] * 2})
    importances = compute_importances(KIND.fit(SETTINGS, columns, rows, LABELS, 42))
    assert sorted(importances.index) == ["SEX_1.0", "SEX_1.0", "SEX_2.0"]


@pytest.mark.parametrize("kind", KINDS)
def test_importances_sum_to_one_and_name_the_encoded_features(kind: str) -> None:
    importances = compute_importances(fit_kind(kind))
    assert importances.sum() == pytest.approx(1.0)
    assert importances.is_monotonic_decreasing
    assert {"AGE", "SEX_1.0", "purpose_car"} <= set(importances.index)


def test_chosen_features_are_taken_in_the_data_sets_order() -> None:
    features = Features(numeric=["amount"], categorical=["SEX", "purpose"])
    assert select_features(features, MIXED) == ["purpose", "SEX", "amount"]


def test_a_model_of_some_features_can_be_exported(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"features": Features(numeric=["AGE"], categorical=[])})
    columns = MIXED.model_copy(update={"columns": {"AGE": MIXED.columns["AGE"]}})
    assert measure_difference(fit_model(settings=settings), to_model_input(TRAINING, MIXED), columns, tmp_path) < 1e-6


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (
            Features(numeric=["AGE", "WEIGHT"]),
            r"features\.numeric: .* no numeric column WEIGHT.*Its numeric columns: AGE, amount",
        ),
        (Features(numeric=["SEX"]), r"features\.numeric: .* column SEX"),
        (Features(categorical=["AGE"]), r"features\.categorical: .* column AGE.*: purpose, SEX"),
        (Features(numeric=[], categorical=[]), "no column selected"),
    ],
    ids=["unknown", "categorical as numeric", "numeric as categorical", "none"],
)
def test_features_that_the_data_set_does_not_have_are_named(features: Features, message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        KIND.fit(RandomForestSettings(features=features), MIXED, to_model_input(TRAINING, MIXED), LABELS, 42)


def test_the_file_next_to_the_step_and_a_file_elsewhere_can_hold_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("threshold: 0.3")
    bundled = read_model_settings(KIND, "rf_config.yaml")
    assert isinstance(bundled, RandomForestSettings)
    assert bundled.random_forest.max_depth == 13
    assert read_model_settings(KIND, str(file)).threshold == 0.3
    file.write_text("random_forest: {n_trees: 5}")
    with pytest.raises(BadParameter, match=r"own\.yaml: random_forest\.n_trees: Extra inputs"):
        read_model_settings(KIND, str(file))
    with pytest.raises(BadParameter, match=rf"--model_config: no file {ROOT / 'random_forest' / 'other.yaml'}"):
        read_model_settings(KIND, "other.yaml")

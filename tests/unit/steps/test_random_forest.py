"""random_forest: the pipeline, its ONNX graph, and the file that is kept beside it for inspection."""

from __future__ import annotations

import json
from dataclasses import dataclass
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

from random_forest.export import TRUSTED_TYPES, expect_equal, largest_difference, requirements, signature_of
from random_forest.graph import PROBABILITIES, to_graph
from random_forest.pipeline import ENCODE, build, features_of, importances
from random_forest.predictor import Predictor, as_inputs, probabilities_of
from random_forest.run import read_settings
from stepkit.errors import BadParameter, ExportUnequal
from stepkit.paths import ROOT
from stepkit.settings.model import Features, Forest, ModelSettings
from stepkit.table.columns import Column, Columns
from stepkit.table.tables import as_model_input

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
SETTINGS = ModelSettings(random_forest=Forest(n_estimators=7, max_depth=4, n_jobs=1))

TRAINING = pd.DataFrame(
    {
        "purpose": ["car", "house", None, "car", "boat", "house"],
        "AGE": [24, 57, None, 45, 31, 62],
        "SEX": [1, 2, 2, None, 1, 2],
        "amount": [1.5, 2e6, 3.25, None, 7.0, 0.1],
        "default": [1, 0, 1, 0, 1, 0],
    }
)

UNSEEN = pd.DataFrame(
    {
        "purpose": ["rocket", None, "car", ""],
        "AGE": [None, 200, 30, -1],
        "SEX": [9, None, 1, 2],
        "amount": [None, 1e9, None, 0.0],
    }
)
"""Unknown codes, unknown texts, missing values, values out of any range."""


def fitted(seed: int = 42, settings: ModelSettings = SETTINGS) -> Pipeline:
    return build(settings, MIXED, seed).fit(as_model_input(TRAINING, MIXED), TRAINING["default"])


@dataclass
class Exported:
    model: Pipeline
    graph: Path
    inputs: list[str]
    text: list[str]

    def difference(self, rows: pd.DataFrame) -> float:
        return largest_difference(self.model, self.graph, rows, self.inputs, self.text)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    model, inputs = fitted(), features_of(SETTINGS.features, MIXED)
    graph = tmp_path_factory.mktemp("graph") / "model.onnx"
    graph.write_bytes(to_graph(model, inputs, MIXED.text).SerializeToString())
    return Exported(model, graph, inputs, MIXED.text)


@pytest.fixture(scope="module")
def predictor(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    settings = tmp_path_factory.mktemp("settings") / "settings.json"
    settings.write_text(json.dumps({"columns": exported.inputs, "text": exported.text, "threshold": 0.5}))
    loaded = Predictor()
    loaded.load_context(PythonModelContext({"onnx": str(exported.graph), "settings": str(settings)}, {}))
    return loaded


@pytest.mark.parametrize("rows", [TRAINING, UNSEEN], ids=["training rows", "unknown codes and gaps"])
def test_the_graph_answers_as_scikit_learn_does(exported: Exported, rows: pd.DataFrame) -> None:
    assert exported.difference(as_model_input(rows, MIXED)) < 1e-6


@pytest.mark.parametrize("code", [1.5, 0.5, -0.5, 1.0001, -1.0, 1e10, np.inf, -np.inf])
def test_a_number_that_is_not_a_code_is_an_unknown_code(exported: Exported, predictor: Predictor, code: float) -> None:
    rows = as_model_input(TRAINING, MIXED)
    context = PythonModelContext({}, {})
    unknown, asked = (predictor.predict(context, rows.assign(SEX=value)) for value in (9.0, code))
    assert asked.equals(unknown)
    assert not asked.equals(predictor.predict(context, rows.assign(SEX=1.0)))
    if np.isfinite(code):
        assert exported.difference(rows.assign(SEX=code)) < 1e-6


def test_codes_with_fractions_are_codes(tmp_path: Path) -> None:
    columns = MIXED.model_copy(update={"columns": {**MIXED.columns, "SEX": Column(type="float", role="categorical")}})
    rows = as_model_input(TRAINING, columns).assign(SEX=[0.1, 2.5, 2.5, 0.1, np.nan, 7.0])
    model = build(SETTINGS, columns, 42).fit(rows, TRAINING["default"])
    graph = tmp_path / "model.onnx"
    graph.write_bytes(to_graph(model, columns.names, columns.text).SerializeToString())
    assert largest_difference(model, graph, rows, columns.names, columns.text) < 1e-6


@pytest.mark.parametrize("answered", [np.nan, 1.1, -0.1, np.inf, 1 + 1e-5])
def test_the_predictor_returns_probabilities_or_fails(answered: float) -> None:
    with pytest.raises(MlflowException, match="not a number from 0 to 1") as caught:
        probabilities_of(answering([0.5, answered]), {})
    assert caught.value.get_http_status_code() == 500


def test_the_last_digits_of_a_sum_may_leave_the_range_of_probabilities() -> None:
    assert probabilities_of(answering([1 + 9e-7, -9e-7]), {}).tolist() == [1.0, 0.0]


def answering(values: list[float]) -> Any:
    """Stands where ONNX Runtime has a session of a graph that returns these probabilities."""
    return SimpleNamespace(run=lambda names, inputs: [np.array([[np.nan, value] for value in values])])


def test_the_probabilities_of_unseen_rows_are_probabilities(exported: Exported) -> None:
    answer = exported.model.predict_proba(as_model_input(UNSEEN, MIXED))
    assert np.isfinite(answer).all()


def test_the_graph_takes_one_named_input_per_column_in_the_data_sets_order(exported: Exported) -> None:
    graph = to_graph(exported.model, exported.inputs, exported.text)
    assert [node.name for node in graph.graph.input] == ["purpose", "AGE", "SEX", "amount"]


ODD_NAMES = {
    "purpose": "what for, and why?",
    "AGE": "label",  # the name of the graph's other output
    "SEX": "a b",
    "amount": "a_b",  # what skl2onnx would call the one above
}


def test_columns_may_have_any_names_even_those_of_the_graph_itself(tmp_path: Path) -> None:
    columns = Columns(
        source_target="default",
        target="default",
        columns={ODD_NAMES[name]: column for name, column in MIXED.columns.items()},
    )
    rows = as_model_input(TRAINING.rename(columns=ODD_NAMES), columns)
    model = build(SETTINGS, columns, 42).fit(rows, TRAINING["default"])
    graph = tmp_path / "model.onnx"
    graph.write_bytes(to_graph(model, columns.names, columns.text).SerializeToString())
    assert largest_difference(model, graph, rows, columns.names, columns.text) < 1e-6


@pytest.mark.parametrize("classifier", [GradientBoostingClassifier(n_estimators=5), LogisticRegression()])
def test_another_kind_of_classifier_is_exported_by_its_own_converter(
    tmp_path: Path, classifier: GradientBoostingClassifier | LogisticRegression
) -> None:
    encode = fitted().named_steps[ENCODE]
    rows = as_model_input(TRAINING, MIXED)
    model = Pipeline([(ENCODE, encode), ("classifier", classifier)]).fit(rows, TRAINING["default"])
    graph = tmp_path / "model.onnx"
    graph.write_bytes(to_graph(model, MIXED.names, MIXED.text).SerializeToString())
    assert largest_difference(model, graph, rows, MIXED.names, MIXED.text) < 1e-5


def test_a_column_with_the_name_of_the_answer_is_refused() -> None:
    with pytest.raises(BadParameter, match=PROBABILITIES):
        to_graph(fitted(), [PROBABILITIES, "AGE"], [])


def test_a_graph_of_another_model_is_refused(exported: Exported) -> None:
    other = Exported(fitted(seed=1), exported.graph, exported.inputs, exported.text)
    difference = other.difference(as_model_input(TRAINING, MIXED))
    with pytest.raises(ExportUnequal, match=r"differs from scikit-learn by up to .* on 6 validation rows"):
        expect_equal(difference, 6)


@pytest.mark.parametrize("difference", [1e-5, 1.0, float("nan")])
def test_a_difference_at_the_limit_or_not_a_number_is_refused(difference: float) -> None:
    with pytest.raises(ExportUnequal):
        expect_equal(difference, 6)


def test_a_difference_of_float_sums_is_accepted() -> None:
    expect_equal(9.9e-6, 6)


def test_the_predictor_answers_with_probability_and_class(exported: Exported, predictor: Predictor) -> None:
    rows = as_model_input(TRAINING, MIXED).set_axis(range(10, 16))
    answer = predictor.predict(PythonModelContext({}, {}), rows)
    expected = exported.model.predict_proba(rows)[:, 1]
    assert list(answer) == ["probability", "class"]
    assert answer.index.tolist() == rows.index.tolist()
    assert answer["probability"].to_numpy() == pytest.approx(expected, abs=1e-6)
    assert answer["class"].tolist() == (expected >= 0.5).astype(int).tolist()


def test_the_class_follows_the_models_threshold(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = as_model_input(TRAINING, MIXED)
    for threshold, classes in ((0.0, {1}), (1.1, {0})):
        monkeypatch.setattr(predictor, "threshold", threshold)
        assert set(predictor.predict(PythonModelContext({}, {}), rows)["class"]) == classes


def test_the_predictor_takes_whole_numbers_gaps_and_any_order_of_columns(predictor: Predictor) -> None:
    rows = TRAINING.astype({"AGE": "Int64", "SEX": "Int64", "purpose": "string"})[["amount", "SEX", "AGE", "purpose"]]
    ours = predictor.predict(PythonModelContext({}, {}), rows)
    expected = predictor.predict(PythonModelContext({}, {}), as_model_input(TRAINING, MIXED))
    pd.testing.assert_frame_equal(ours, expected)


def test_one_row_gets_the_answer_that_it_gets_among_others(predictor: Predictor) -> None:
    rows = as_model_input(UNSEEN, MIXED)
    together = predictor.predict(PythonModelContext({}, {}), rows)
    alone = [predictor.predict(PythonModelContext({}, {}), rows.iloc[[row]]) for row in range(len(rows))]
    pd.testing.assert_frame_equal(pd.concat(alone), together)


def test_inputs_of_the_graph_are_columns_of_float32_and_text() -> None:
    inputs = as_inputs(UNSEEN, ["AGE", "purpose"], ["purpose"])
    assert inputs["AGE"].dtype == np.dtype("float32")
    assert inputs["AGE"].shape == (4, 1)
    assert inputs["purpose"].ravel().tolist() == ["rocket", "", "car", ""]
    assert np.isnan(inputs["AGE"][0, 0])


def test_the_signature_is_of_doubles_and_texts() -> None:
    signature = signature_of(["purpose", "AGE"], ["purpose"])
    assert [(column.name, column.type.name) for column in signature.inputs] == [
        ("purpose", "string"),
        ("AGE", "double"),
    ]
    assert signature.outputs.input_names() == ["probability", "class"]


def test_requirements_are_exact() -> None:
    assert all(line.count("==") == 1 for line in requirements())
    assert {line.split("==")[0] for line in requirements()} == {"mlflow", "numpy", "pandas", "onnxruntime"}


def test_the_inspection_file_loads_with_types_of_numpy_and_scikit_learn_only(
    exported: Exported, tmp_path: Path
) -> None:
    file = tmp_path / "model.skops"
    skops.io.dump(exported.model, file)
    assert skops.io.get_untrusted_types(file=file) == TRUSTED_TYPES
    assert {name.split(".")[0] for name in TRUSTED_TYPES} == {"numpy", "sklearn"}
    loaded = skops.io.load(file, trusted=TRUSTED_TYPES)
    rows = as_model_input(TRAINING, MIXED)
    np.testing.assert_array_equal(loaded.predict_proba(rows), exported.model.predict_proba(rows))


def test_the_same_seed_gives_the_same_forest() -> None:
    rows = as_model_input(TRAINING, MIXED)
    np.testing.assert_array_equal(fitted(3).predict_proba(rows), fitted(3).predict_proba(rows))


EMPTY = {
    "numbers": (Column(), [None] * 6, [None, 5, None, 1, 2, 3]),
    "codes": (Column(role="categorical"), [None] * 6, [None, 5, None, 0, 2, 3]),
    "texts": (Column(type="text", role="categorical"), [None] * 6, [None, "x", "", "y", None, "z"]),
    "one number": (Column(), [7] * 6, [None, 5, 7, 1, 2, 3]),
    "one code": (Column(role="categorical"), [7] * 6, [None, 5, 7, 1, 2, 3]),
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_column_without_values_or_with_one_value_is_exported(tmp_path: Path, name: str) -> None:
    column, fitted_on, asked = EMPTY[name]
    columns = Columns(source_target="y", target="y", columns={"bonus": column, **MIXED.columns})
    training, later = (TRAINING.assign(bonus=pd.Series(values, dtype=object)) for values in (fitted_on, asked))
    model = build(SETTINGS, columns, 42).fit(as_model_input(training, columns), TRAINING["default"])
    graph = tmp_path / "model.onnx"
    graph.write_bytes(to_graph(model, columns.names, columns.text).SerializeToString())
    for rows in (training, later):
        assert largest_difference(model, graph, as_model_input(rows, columns), columns.names, columns.text) < 1e-6


def test_a_column_may_be_called_like_a_code_of_another() -> None:
    columns = Columns(source_target="y", target="y", columns={"SEX": Column(role="categorical"), "SEX_1.0": Column()})
    rows = pd.DataFrame({"SEX": [1.0, 2.0] * 3, "SEX_1.0": [1.0, 2.0, 3.0] * 2})
    found = importances(build(SETTINGS, columns, 42).fit(rows, TRAINING["default"]))
    assert sorted(found.index) == ["SEX_1.0", "SEX_1.0", "SEX_2.0"]


def test_importances_sum_to_one_and_name_the_encoded_features() -> None:
    found = importances(fitted())
    assert found.sum() == pytest.approx(1.0)
    assert found.is_monotonic_decreasing
    assert {"AGE", "SEX_1.0", "purpose_car"} <= set(found.index)


def test_chosen_features_are_taken_in_the_data_sets_order() -> None:
    assert features_of(Features(numeric=["amount"], categorical=["SEX", "purpose"]), MIXED) == [
        "purpose",
        "SEX",
        "amount",
    ]


def test_a_model_of_some_features_can_be_exported(tmp_path: Path) -> None:
    settings = ModelSettings(random_forest=SETTINGS.random_forest, features=Features(numeric=["AGE"], categorical=[]))
    model = fitted(settings=settings)
    (tmp_path / "model.onnx").write_bytes(to_graph(model, ["AGE"], []).SerializeToString())
    rows = as_model_input(TRAINING, MIXED)
    assert largest_difference(model, tmp_path / "model.onnx", rows, ["AGE"], []) < 1e-6


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (Features(numeric=["AGE", "WEIGHT"]), r"features\.numeric names WEIGHT, .*Its numeric columns: AGE, amount"),
        (Features(numeric=["SEX"]), r"features\.numeric names SEX"),
        (Features(categorical=["AGE"]), r"features\.categorical names AGE, .*: purpose, SEX"),
        (Features(numeric=[], categorical=[]), "no column at all"),
    ],
    ids=["unknown", "categorical as numeric", "numeric as categorical", "none"],
)
def test_features_that_the_data_set_does_not_have_are_named(features: Features, message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        build(ModelSettings(features=features), MIXED, 42)


def test_the_file_beside_the_step_and_a_file_elsewhere_can_hold_the_settings(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("threshold: 0.3")
    assert read_settings("rf_config.yaml").random_forest.max_depth == 13
    assert read_settings(str(tmp_path / "own.yaml")).threshold == 0.3


def test_a_settings_file_that_is_not_there_is_named() -> None:
    path = ROOT / "random_forest" / "other.yaml"
    with pytest.raises(BadParameter, match=rf"no model configuration at {path}"):
        read_settings("other.yaml")


def test_a_wrong_setting_is_named_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("random_forest: {n_trees: 5}")
    with pytest.raises(BadParameter, match=r"own\.yaml: random_forest\.n_trees: Extra inputs"):
        read_settings(str(tmp_path / "own.yaml"))

"""Reasons: Shapley values against a reference row, through the exported graph of every kind of model."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc import PythonModelContext

import gradient_boosting.run
import logistic_regression.run
import random_forest.run
from evaluate.measure import EFFECT_ROWS, assess_model, build_report, compute_effects
from evaluate.plots import plot_effects
from stepkit.errors import BadParameter
from stepkit.model.metrics import Scored
from stepkit.model.reasons import Explainer, make_orders, to_plain_value
from stepkit.settings.evaluate import Evaluation, Slices
from stepkit.settings.load import read_settings
from stepkit.settings.model import Reasons
from stepkit.table.columns import Column, Columns
from training.export import make_signature, pack_log_code
from training.kind import ModelKind
from training.onnx_graph import to_graph
from training.reference_row import build_reference_row, describe_reasons, verify_permutations
from training.served_model import RECORD, Predictor, compute_probabilities, open_session, to_inputs

KINDS = [random_forest.run.KIND, gradient_boosting.run.KIND, logistic_regression.run.KIND]
COLUMNS = Columns(
    source_target="y",
    target="y",
    columns={
        "a": Column(type="float", label="Amount", reason="{label} of {value}"),
        "b": Column(type="float"),
        "c": Column(type="float", max_missing=0.2),
        "ignored": Column(type="float"),
        "code": Column(role="categorical", values=[1, 2, 3], labels={2: "two"}),
        "sex": Column(role="categorical", values=[1, 2], protected=True),
        "city": Column(type="text", role="categorical"),
        "hidden": Column(type="float", may_be_reason=False),
    },
)
NAMES = COLUMNS.names


def make_rows(rows: int, seed: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({name: rng.normal(size=rows).round(2) for name in ("a", "b", "c", "hidden")})
    table["ignored"] = 1.0
    table.loc[rng.random(rows) < 0.1, "c"] = np.nan
    table["code"] = rng.integers(1, 4, rows).astype(float)
    table["sex"] = rng.integers(1, 3, rows).astype(float)
    table["city"] = rng.choice(["Taipei", "Tainan", ""], rows)
    return table[NAMES]


class Model:
    """Exported model of one kind, and its explainers."""

    def __init__(self, kind: ModelKind) -> None:
        rows = make_rows(400)
        score = rows["a"] + rows["b"] * (rows["code"] == 2) + 0.7 * (rows["city"] == "Taipei") - 0.5 * rows["sex"]
        labels = (score + np.random.default_rng(1).normal(size=400) > 0).to_numpy(int)
        settings = read_settings(kind.settings, kind.folder / kind.config, "")
        pipeline = kind.fit(settings, COLUMNS, rows, labels, 42)
        self.graph: bytes = to_graph(pipeline, NAMES, ["city"]).SerializeToString()
        self.session = open_session(self.graph)
        self.reference = build_reference_row(rows, NAMES, COLUMNS)

    def score(self, rows: pd.DataFrame) -> np.ndarray:
        return compute_probabilities(self.session, to_inputs(rows, NAMES, ["city"]))

    def make_explainer(self, permutations: int | str = 8) -> Explainer:
        settings = describe_reasons(permutations, COLUMNS, NAMES, self.reference)
        return Explainer(settings, NAMES, ["city"], lambda inputs: compute_probabilities(self.session, inputs))

    def explain(self, rows: pd.DataFrame, count: int, permutations: int | str = 8) -> list[dict[str, Any]]:
        predicted = (self.score(rows) >= 0.5).astype(int).tolist()
        explainer = self.make_explainer(permutations)
        values: list[Any] = rows.to_dict("records")
        return explainer.explain(to_inputs(rows, NAMES, ["city"]), values, predicted, count)


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.folder.name)
def model(request: pytest.FixtureRequest) -> Model:
    return Model(request.param)


def compute_by_brute_force(model: Model, row: Any) -> np.ndarray:
    """Return the Shapley values by their definition: over all subsets of the eight columns."""
    subsets = [set(subset) for size in range(9) for subset in itertools.combinations(NAMES, size)]
    table = pd.DataFrame([{n: row[n] if n in subset else model.reference[n] for n in NAMES} for subset in subsets])
    values = {frozenset(subset): value for subset, value in zip(subsets, model.score(table), strict=True)}
    effects = []
    for name in NAMES:
        total = 0.0
        for subset in subsets:
            if name not in subset:
                weight = math.factorial(len(subset)) * math.factorial(7 - len(subset)) / math.factorial(8)
                total += weight * (values[frozenset({*subset, name})] - values[frozenset(subset)])
        effects.append(total)
    return np.array(effects)


def test_exact_effects_equal_brute_force_over_all_subsets(model: Model) -> None:
    rows = make_rows(5, seed=9)
    effects = model.make_explainer("exact").compute_effects(to_inputs(rows, NAMES, ["city"]))
    for number, row in enumerate(rows.to_dict("records")):
        assert effects[number] == pytest.approx(compute_by_brute_force(model, row), abs=1e-6)


def load_predictor(model: Model, tmp_path: Path) -> tuple[Predictor, PythonModelContext]:
    settings = {
        "columns": NAMES,
        "text": ["city"],
        "threshold": 0.5,
        "reasons": describe_reasons(8, COLUMNS, NAMES, model.reference),
    }
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    (tmp_path / "model.onnx").write_bytes(model.graph)
    files = {"settings": "settings.json", "onnx": "model.onnx", RECORD: str(pack_log_code(tmp_path / RECORD))}
    predictor = Predictor()
    context = PythonModelContext({name: str(tmp_path / file) for name, file in files.items()}, {})
    predictor.load_context(context)
    return predictor, context


def test_the_effects_of_all_columns_add_up_to_the_probability(model: Model, tmp_path: Path) -> None:
    predictor, _ = load_predictor(model, tmp_path)
    rows = make_rows(60, seed=5)
    effects = predictor.compute_effects(rows)
    assert effects.shape == (60, len(NAMES))
    baseline = model.score(pd.DataFrame([model.reference]))[0]
    assert effects.sum(axis=1) + baseline == pytest.approx(model.score(rows), abs=1e-6)


def test_effects_are_next_to_the_importance_and_have_a_panel_for_each_column(model: Model, tmp_path: Path) -> None:
    predictor, context = load_predictor(model, tmp_path)
    table = make_rows(2000).assign(y=np.arange(2000) % 2)
    effects = compute_effects(predictor, table, COLUMNS, seed=1)
    assert effects is not None
    assert len(effects.rows) == EFFECT_ROWS
    settings = Evaluation(slices=Slices(columns={}), resamples=100, importance_rows=50)
    answers = predictor.predict(context, table[NAMES])
    scored = Scored(table["y"].to_numpy(), answers["probability"].to_numpy(), answers["class"].to_numpy())
    assessed = assess_model(scored, table, model.score, COLUMNS, settings, 1, effects)
    strength = {column.column: column.effect for column in assessed.importance}
    assert strength == pytest.approx(dict(zip(NAMES, np.abs(effects.values).mean(axis=0), strict=True)))
    assert strength["ignored"] == 0
    assert build_report(assessed, 0.5, settings, 1)["reference_row"] == model.reference
    panels = [axes.get_title() for axes in plot_effects(effects, COLUMNS).axes if axes.get_visible()]
    strongest = sorted(strength, key=lambda name: -strength[name])[:6]
    assert panels == [COLUMNS.columns[name].label or name for name in strongest]


def test_a_model_of_an_earlier_release_has_no_effects() -> None:
    assert compute_effects(object(), make_rows(10), COLUMNS, seed=1) is None


def test_rows_with_equal_labels_get_an_answer_each(model: Model, tmp_path: Path) -> None:
    """MLflow's server takes the labels of the rows from the caller: the key `index` of dataframe_split."""
    predictor, context = load_predictor(model, tmp_path)
    rows = make_rows(3, seed=5)
    expected = predictor.predict(context, rows, {"reasons": 2})
    answer = predictor.predict(context, rows.set_axis([7, 7, 7]), {"reasons": 2})
    pd.testing.assert_frame_equal(answer, expected.set_axis([7, 7, 7]))


def test_many_orders_approach_the_exact_effects(model: Model) -> None:
    inputs = to_inputs(make_rows(20, seed=9), NAMES, ["city"])
    exact, few, many = (model.make_explainer(count).compute_effects(inputs) for count in ("exact", 4, 512))
    assert np.abs(many - exact).mean() < np.abs(few - exact).mean()
    assert np.abs(many - exact).max() < 0.02


@pytest.mark.parametrize("permutations", [2, 8, "exact"])
def test_the_parts_of_an_answer_add_up_to_the_probability(model: Model, permutations: int | str) -> None:
    rows = make_rows(60, seed=5)
    gaps = pd.DataFrame([{**rows.iloc[0], "a": np.nan, "code": np.nan, "city": ""}])
    unseen = pd.DataFrame([{**rows.iloc[1], "b": np.inf, "code": 77.0, "city": "unseen"}])
    rows = pd.concat([rows, gaps, unseen, pd.DataFrame([model.reference])], ignore_index=True)
    probability = model.score(rows)
    for count in (0, 3, 8):
        for answer, expected in zip(model.explain(rows, count, permutations), probability, strict=True):
            listed = sum(reason["effect"] for reason in answer["reasons"])
            total = answer["baseline"] + listed + answer["protected_effect"] + answer["other"]
            assert total == pytest.approx(expected, abs=1e-6)


def test_the_reasons_of_a_row_do_not_depend_on_the_other_rows(model: Model) -> None:
    rows = make_rows(300, seed=5)
    together = model.explain(rows, 8)
    assert model.explain(rows.iloc[::-1], 8)[::-1] == together
    assert [model.explain(rows.iloc[[place]], 8)[0] for place in range(40)] == together[:40]


def test_reasons_lead_towards_the_answered_class_and_leave_out_protected_columns(model: Model) -> None:
    rows = make_rows(100, seed=6)
    for answer, probability in zip(model.explain(rows, 8), model.score(rows), strict=True):
        effects = [reason["effect"] for reason in answer["reasons"]]
        assert effects == sorted(effects, reverse=bool(probability >= 0.5))
        names = {reason["column"] for reason in answer["reasons"]}
        assert names == {*NAMES} - {"sex", "hidden"}
        for reason in answer["reasons"]:
            has_sentence = reason["column"] == "a" and reason["effect"] > 0
            assert reason.get("reason", "").startswith("Amount of ") == has_sentence


def test_a_column_that_the_model_ignores_has_no_effect(model: Model) -> None:
    rows = make_rows(50, seed=7)
    rows["ignored"] = np.arange(50.0)  # constant in training, so no model can use it
    for permutations in (8, "exact"):
        effects = model.make_explainer(permutations).compute_effects(to_inputs(rows, NAMES, ["city"]))
        assert np.abs(effects[:, NAMES.index("ignored")]).max() < 1e-7


def test_the_reference_row_has_no_effects_and_its_probability_is_the_baseline(model: Model) -> None:
    rows = pd.DataFrame([model.reference])
    (answer,) = model.explain(rows, 8)
    assert answer["baseline"] == pytest.approx(model.score(rows)[0], abs=1e-6)
    assert {reason["effect"] for reason in answer["reasons"]} == {0.0}


def test_the_reference_row_is_typical_and_an_empty_column_has_none() -> None:
    rows = pd.DataFrame({"a": [1.0, 5.0, 2.0, 9.0], "code": [3.0, 3.0, 1.0, np.nan], "city": ["x", "", "x", "y"]})
    rows["c"] = np.nan
    reference = build_reference_row(rows, ["a", "code", "city", "c"], COLUMNS)
    assert reference == {"a": 2, "code": 3, "city": "x", "c": None}


def test_exact_reasons_of_many_columns_are_rejected() -> None:
    verify_permutations(Reasons(permutations="exact"), NAMES)
    verify_permutations(Reasons(permutations=8), NAMES * 2)
    with pytest.raises(BadParameter, match=r"reasons.permutations: exact .*found 16 columns"):
        verify_permutations(Reasons(permutations="exact"), NAMES * 2)


def test_each_order_is_a_permutation_and_has_its_reverse() -> None:
    orders = make_orders(23, 8, seed=1)
    assert [sorted(order) for order in orders.tolist()] == [list(range(23))] * 8
    assert (orders[:4] == orders[4:, ::-1]).all()
    assert (orders == make_orders(23, 8, seed=1)).all()


@pytest.mark.parametrize(
    ("value", "plain"),
    [(2.0, 2), (2.5, 2.5), (np.nan, None), (None, None), ("", None), ("x", "x"), (math.inf, "Infinity")],
)
def test_values_are_plain_json(value: Any, plain: Any) -> None:
    assert to_plain_value(value) == plain
    assert type(to_plain_value(value)) is type(plain)


def test_the_signature_declares_the_parameter() -> None:
    params = make_signature(["a"], []).params
    assert params.to_dict() == [{"name": "reasons", "default": 0, "shape": None, "type": "long"}]

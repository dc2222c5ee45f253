"""training.onnx_trees: the graph of a forest, and of boosting, has the same predictions as scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from skl2onnx import to_onnx
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.preprocessing import FunctionTransformer

from training.calibration import use_one_core
from training.onnx_trees import TREES_TOGETHER, Nodes, add_sigmoid, make_convertible, round_down_to_float32
from training.served_model import compute_probabilities, open_session

RNG = np.random.default_rng(7)
ROWS = RNG.normal(size=(400, 6)).astype(np.float32)
LABELS = (ROWS[:, 0] + RNG.normal(size=400) > 0.3).astype(int)


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with use_one_core():
        yield


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"class_weight": "balanced", "max_depth": 4},
        {"bootstrap": False, "max_depth": 1},
        {"max_samples": 50, "min_samples_leaf": 5, "criterion": "entropy"},
    ],
)
def test_the_graph_answers_as_that_of_skl2onnx(settings: dict[str, Any]) -> None:
    forest = RandomForestClassifier(27, random_state=3, **settings).fit(ROWS, LABELS)
    converted, expected = (predict(model) for model in (make_convertible(forest), forest))
    assert (converted[0] == expected[0]).all()
    assert converted[0].dtype == np.int64
    assert np.abs(converted[1] - expected[1]).max() < 1e-6
    assert np.abs(converted[1] - forest.predict_proba(ROWS)).max() < 1e-6


@pytest.mark.parametrize(
    "settings",
    [{}, {"max_leaf_nodes": 2, "learning_rate": 0.5}, {"max_bins": 5}, {"class_weight": "balanced", "max_depth": 2}],
)
def test_the_graph_of_boosting_predicts_as_scikit_learn(settings: dict[str, Any]) -> None:
    boosting = HistGradientBoostingClassifier(max_iter=27, random_state=3, **settings).fit(ROWS, LABELS)
    labels, probabilities = predict(make_convertible(boosting))
    expected = boosting.predict_proba(ROWS)
    assert np.abs(probabilities - expected).max() < 1e-6
    certain = np.abs(expected[:, 1] - 0.5) > 1e-6
    assert (labels[certain] == boosting.predict(ROWS)[certain]).all()


def test_skl2onnx_does_not_convert_boosting_itself() -> None:
    """The converter of boosting in training.onnx_trees may go when this fails."""
    with pytest.raises(ValueError, match="Unable to create node 'TreeEnsembleClassifier'"):
        predict(HistGradientBoostingClassifier(max_iter=2).fit(ROWS, LABELS))


def test_a_higher_score_never_gets_a_lower_probability() -> None:
    """ONNX Runtime's sigmoid of float32 numbers is wrong in the last digit, up and down."""

    def convert(scope: Any, operator: Any, container: Any) -> None:
        nodes = Nodes(scope, container)
        nodes.add("Identity", [add_sigmoid(nodes, operator.input_full_names[0])], operator.outputs[0].full_name)

    scores = np.sort(RNG.normal(size=200_000).astype(np.float32))[:, None]
    transformer = FunctionTransformer().fit(scores)
    transformer.onnx_converter = lambda: convert
    session = open_session(to_onnx(transformer, scores[:1]).SerializeToString())
    (probabilities,) = session.run(None, {session.get_inputs()[0].name: scores})
    assert np.diff(probabilities[:, 0]).min() >= 0
    assert np.abs(probabilities - expit(scores.astype(float))).max() < 1e-7


def predict(
    forest: RandomForestClassifier | HistGradientBoostingClassifier, rows: np.ndarray = ROWS
) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels (n,) and the probabilities (n, 2) of the forest's graph."""
    graph = to_onnx(forest, rows[:1], options={id(forest): {"zipmap": False}})
    session = open_session(graph.SerializeToString())
    labels, probabilities = session.run(None, {session.get_inputs()[0].name: rows})
    return labels, probabilities


def test_trees_are_shared_out_among_operators_and_none_is_left_out() -> None:
    for count in (1, TREES_TOGETHER, TREES_TOGETHER + 1):
        forest = make_convertible(RandomForestClassifier(count, random_state=3).fit(ROWS, LABELS))
        graph = to_onnx(forest, ROWS[:1], options={id(forest): {"zipmap": False}}).graph
        ensembles = [node for node in graph.node if node.op_type == "TreeEnsembleRegressor"]
        assert len(ensembles) == -(-count // TREES_TOGETHER)
        assert np.abs(predict(forest)[1] - forest.predict_proba(ROWS)).max() < 1e-6


def test_a_tie_is_of_the_class_that_scikit_learn_says() -> None:
    half = np.array([[0.0], [0.0], [1.0], [1.0]], dtype=np.float32)
    forest = RandomForestClassifier(1, bootstrap=False, max_depth=1).fit(half, [0, 1, 1, 1])
    labels, probabilities = predict(make_convertible(forest), half)
    assert probabilities[0, 1] == 0.5
    assert (labels == forest.predict(half)).all()


def test_a_row_is_answered_alike_whatever_rows_stand_beside_it() -> None:
    forest = make_convertible(RandomForestClassifier(27, random_state=3).fit(ROWS, LABELS))
    together = predict(forest)[1]
    assert all((predict(forest, ROWS[row : row + 1])[1] == together[row]).all() for row in range(0, 400, 40))


def test_the_forest_itself_stays_as_it_is() -> None:
    forest = RandomForestClassifier(2, random_state=3).fit(ROWS, LABELS)
    make_convertible(forest)
    assert forest.bootstrap
    assert not hasattr(forest, "onnx_converter")


def test_a_threshold_is_rounded_downwards_only() -> None:
    tenth = np.float64(0.1)
    above = np.float64(np.float32(0.1))  # float32 rounds 0.1 up
    assert above > tenth
    rounded = round_down_to_float32(np.array([tenth, above, -tenth, 0.0, 16777217.0]))
    assert rounded.dtype == np.float32
    assert (rounded.astype(float) <= [tenth, above, -tenth, 0.0, 16777217.0]).all()
    assert rounded.tolist()[1:] == [above, -above, 0.0, 16777216.0]


@pytest.mark.slow
def test_votes_that_add_up_to_more_than_1_are_a_probability_of_1() -> None:
    """Use trees with certain votes, whose float32 sum is above 1 for some numbers of trees."""
    certain = np.repeat(np.array([[-1.0], [1.0]], dtype=np.float32), 200, axis=0)
    raw = []
    for trees in range(5, 60, 3):
        forest = RandomForestClassifier(trees, random_state=3).fit(certain, certain[:, 0] > 0)
        session = open_session(to_onnx(forest, certain[:1], options={"zipmap": False}).SerializeToString())
        inputs = {session.get_inputs()[0].name: certain}
        raw.append(session.run(["probabilities"], inputs)[0][:, 1].max())
        probabilities = compute_probabilities(session, inputs)
        assert ((probabilities >= 0.0) & (probabilities <= 1.0)).all()
    assert max(raw) > 1.0

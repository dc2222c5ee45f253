"""random_forest.trees: the forest's node of the graph is, byte for byte, the one that skl2onnx makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier

from random_forest.predictor import probabilities_of, session_of
from random_forest.trees import at_most_in_float32, convertible

RNG = np.random.default_rng(7)
ROWS = RNG.normal(size=(400, 6)).astype(np.float32)
LABELS = (ROWS[:, 0] + RNG.normal(size=400) > 0.3).astype(int)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"class_weight": "balanced", "max_depth": 4},
        {"bootstrap": False, "max_depth": 1},
        {"max_samples": 50, "min_samples_leaf": 5, "criterion": "entropy"},
    ],
)
def test_the_graph_is_that_of_skl2onnx(settings: dict[str, Any]) -> None:
    forest = RandomForestClassifier(7, random_state=3, **settings).fit(ROWS, LABELS)
    ours = convertible(forest)
    graphs = [to_onnx(one, ROWS[:1], options={id(one): {"zipmap": False}}) for one in (forest, ours)]
    assert graphs[0].SerializeToString() == graphs[1].SerializeToString()


def test_the_forest_itself_stays_as_it_is() -> None:
    forest = RandomForestClassifier(2, random_state=3).fit(ROWS, LABELS)
    convertible(forest)
    assert forest.bootstrap
    assert not hasattr(forest, "onnx_converter")


def test_a_threshold_is_rounded_downwards_only() -> None:
    tenth = np.float64(0.1)
    above = np.float64(np.float32(0.1))  # float32 of 0.1 lies above it
    assert above > tenth
    rounded = at_most_in_float32(np.array([tenth, above, -tenth, 0.0, 16777217.0]))
    assert rounded.dtype == np.float32
    assert (rounded.astype(float) <= [tenth, above, -tenth, 0.0, 16777217.0]).all()
    assert rounded.tolist()[1:] == [above, -above, 0.0, 16777216.0]


def test_votes_that_add_up_to_more_than_1_are_a_probability_of_1(tmp_path: Path) -> None:
    """Trees that all are certain: the float32 sum of their votes is above 1 for some number of trees."""
    certain = np.repeat(np.array([[-1.0], [1.0]], dtype=np.float32), 200, axis=0)
    raw = []
    for trees in range(5, 60, 3):
        forest = RandomForestClassifier(trees, random_state=3).fit(certain, certain[:, 0] > 0)
        graph = tmp_path / f"{trees}.onnx"
        graph.write_bytes(to_onnx(forest, certain[:1], options={"zipmap": False}).SerializeToString())
        session = session_of(str(graph))
        inputs = {session.get_inputs()[0].name: certain}
        raw.append(session.run(["probabilities"], inputs)[0][:, 1].max())
        found = probabilities_of(session, inputs)
        assert ((found >= 0.0) & (found <= 1.0)).all()
    assert max(raw) > 1.0

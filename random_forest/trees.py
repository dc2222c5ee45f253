"""The forest's nodes of the ONNX graph, made from scikit-learn's arrays.

skl2onnx's own converter calls Python for every node of every tree, which takes longer than the fit, and puts all trees
into one operator. ONNX Runtime walks the trees of an operator row by row, so that a forest larger than the processor's
cache is fetched again for each row. With a few trees to an operator they stay there for all rows of a table, which are
answered two to three times as fast. A single row takes as long either way.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto
from sklearn.ensemble import RandomForestClassifier

LEAF = -1
"""scikit-learn's mark of a node without children."""

TREES_TOGETHER = 10
"""Trees in one operator of the graph. Of 1, 5, 10, 25, 50 and 100, 10 were the most with which 1,000 rows are near the
fastest, and the fewest with which one row is not slower."""


@dataclass(frozen=True)
class Nodes:
    """Adds operations and constants to a graph, by the two objects that skl2onnx hands to a converter."""

    scope: Any
    container: Any

    def add(self, operation: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """Add an operation; return the name of its only output."""
        output = output or str(self.scope.get_unique_variable_name(operation.lower()))
        name = self.scope.get_unique_operator_name(operation)
        version = {"op_domain": "", "op_version": self.container.target_opset}
        self.container.add_node(operation, inputs, [output], name=name, **{**version, **attributes})
        return output

    def add_constant(self, values: list[float] | list[int]) -> str:
        """Add numbers of one type; return their name."""
        name = str(self.scope.get_unique_variable_name("constant"))
        kind = TensorProto.INT64 if isinstance(values[0], int) else TensorProto.FLOAT
        self.container.add_initializer(name, kind, [len(values)], values)
        return name


def make_convertible(forest: RandomForestClassifier) -> RandomForestClassifier:
    """Return the same forest with this converter, and with no memory of its samples.

    skl2onnx looks at every attribute again and again, and scikit-learn draws the rows of each tree again at every
    look: that took as long as the conversion itself.
    """
    forest = copy.copy(forest)
    forest.bootstrap = False
    forest.onnx_converter = lambda: convert_forest  # where skl2onnx looks for a model's own converter
    return forest


def convert_forest(scope: Any, operator: Any, container: Any) -> None:
    """Add the forest of two classes to the graph: (n,) labels and (n, 2) probabilities."""
    forest, nodes = operator.raw_operator, Nodes(scope, container)
    trees = [one.tree_ for one in forest.estimators_]
    groups = [trees[start : start + TREES_TOGETHER] for start in range(0, len(trees), TREES_TOGETHER)]
    votes = [
        nodes.add(
            "TreeEnsembleRegressor",
            operator.input_full_names,
            op_domain="ai.onnx.ml",
            op_version=1,
            **build_attributes(group, 1 / len(trees)),
        )
        for group in groups
    ]
    positive = nodes.add("Sum", votes)
    one, half = nodes.add_constant([1.0]), nodes.add_constant([0.5])
    classes = nodes.add_constant([int(name) for name in forest.classes_])
    label, probabilities = operator.output_full_names
    negative = nodes.add("Sub", [one, positive])
    nodes.add("Concat", [negative, positive], probabilities, axis=1)
    above = nodes.add("Greater", [positive, half])
    place = nodes.add("Cast", [above], to=TensorProto.INT64)
    flat = nodes.add("Reshape", [place, nodes.add_constant([-1])])
    nodes.add("Gather", [classes, flat], label, axis=0)


def build_attributes(trees: list[Any], weight: float) -> dict[str, Any]:
    """Return the attributes of TreeEnsembleRegressor for `trees` (of sklearn.tree), each with `weight` to its vote."""

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(tree, name) for tree in trees])

    sizes = [tree.node_count for tree in trees]
    tree_ids = np.repeat(np.arange(len(trees)), sizes)
    node_ids = np.concatenate([np.arange(size) for size in sizes])
    is_leaf = joined("children_left") == LEAF
    votes = joined("value")[is_leaf, 0]
    inner = {
        "nodes_featureids": joined("feature"),
        "nodes_truenodeids": joined("children_left"),
        "nodes_falsenodeids": joined("children_right"),
    }
    return {
        "n_targets": 1,
        "aggregate_function": "SUM",
        "post_transform": "NONE",
        "nodes_treeids": tree_ids.tolist(),
        "nodes_nodeids": node_ids.tolist(),
        **{name: np.where(is_leaf, 0, values).tolist() for name, values in inner.items()},
        "nodes_modes": np.where(is_leaf, "LEAF", "BRANCH_LEQ").tolist(),
        "nodes_values": np.where(is_leaf, np.float32(0), round_down_to_float32(joined("threshold"))),
        "nodes_missing_value_tracks_true": [0] * len(tree_ids),
        "nodes_hitrates": np.ones(len(tree_ids), dtype=np.float32),
        "target_treeids": tree_ids[is_leaf].tolist(),
        "target_nodeids": node_ids[is_leaf].tolist(),
        "target_ids": [0] * int(is_leaf.sum()),
        "target_weights": (votes[:, 1] * (weight / votes.sum(axis=1))).astype(np.float32),
    }


def round_down_to_float32(thresholds: np.ndarray) -> np.ndarray:
    """Return (n,) the largest float32 that is not above each threshold: x <= threshold holds for the same float32 x."""
    rounded = thresholds.astype(np.float32)
    return np.where(rounded > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)

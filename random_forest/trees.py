"""The forest's nodes of the ONNX graph, made from scikit-learn's arrays.

skl2onnx's own converter calls Python for every node of every tree, which takes longer than the fit, and puts all trees
into one operator. ONNX Runtime walks the trees of an operator row by row, so that a forest larger than the processor's
cache is fetched anew for each row; with a few trees to an operator they stay there for all rows of a table, which are
answered two to three times as fast. A single row takes as long either way.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from onnx import TensorProto
from sklearn.ensemble import RandomForestClassifier

LEAF = -1
"""scikit-learn's mark of a node without children."""

TREES_TOGETHER = 10
"""Trees in one operator of the graph. Of 1, 5, 10, 25, 50 and 100, 10 were the most with which 1,000 rows are near the
fastest, and the fewest with which one row is not slower."""


def convertible(forest: RandomForestClassifier) -> RandomForestClassifier:
    """Return the same forest as skl2onnx shall take it: with this converter, and with no memory of its samples.

    skl2onnx looks at every attribute again and again, and scikit-learn draws the rows of each tree anew at every
    look: that took as long as the conversion itself.
    """
    forest = copy.copy(forest)
    forest.bootstrap = False
    forest.onnx_converter = lambda: convert  # where skl2onnx looks for a model's own converter
    return forest


def convert(scope: Any, operator: Any, container: Any) -> None:
    """Add the forest of two classes to the graph; called by skl2onnx with its own objects."""
    forest = operator.raw_operator
    trees = [one.tree_ for one in forest.estimators_]
    groups = [trees[start : start + TREES_TOGETHER] for start in range(0, len(trees), TREES_TOGETHER)]
    (features,) = operator.input_full_names
    votes = [_vote(scope, container, features, attributes(group, 1 / len(trees))) for group in groups]
    positive = new(scope, container, "Sum", votes)
    _answer(scope, container, positive, forest.classes_, [output.full_name for output in operator.outputs])


def _vote(scope: Any, container: Any, features: str, trees: dict[str, Any]) -> str:
    """Add some trees; return the name of the (n, 1) sum of their votes for the positive class."""
    return new(scope, container, "TreeEnsembleRegressor", [features], op_domain="ai.onnx.ml", op_version=1, **trees)


def _answer(scope: Any, container: Any, positive: str, classes: np.ndarray, outputs: list[str]) -> None:
    """Add what a classifier answers, by name: (n,) labels and (n, 2) probabilities."""
    label, probabilities = outputs
    one, half, both = (constant(scope, container, value) for value in ([1.0], [0.5], [int(name) for name in classes]))
    negative = new(scope, container, "Sub", [one, positive])
    add(scope, container, "Concat", [negative, positive], probabilities, axis=1)
    above = new(scope, container, "Greater", [positive, half])
    place = new(scope, container, "Cast", [above], to=TensorProto.INT64)
    flat = new(scope, container, "Reshape", [place, constant(scope, container, [-1])])
    add(scope, container, "Gather", [both, flat], label, axis=0)


def new(scope: Any, container: Any, operation: str, inputs: list[str], **more: Any) -> str:
    """Add an operation; return the name of its only output."""
    output = str(scope.get_unique_variable_name(operation.lower()))
    add(scope, container, operation, inputs, output, **more)
    return output


def add(scope: Any, container: Any, operation: str, inputs: list[str], output: str, **more: Any) -> None:
    own = {"op_domain": "", "op_version": container.target_opset, **more}
    container.add_node(operation, inputs, [output], name=scope.get_unique_operator_name(operation), **own)


def constant(scope: Any, container: Any, values: list[float] | list[int]) -> str:
    name = str(scope.get_unique_variable_name("constant"))
    kind = TensorProto.INT64 if isinstance(values[0], int) else TensorProto.FLOAT
    container.add_initializer(name, kind, [len(values)], values)
    return name


def attributes(trees: list[Any], weight: float) -> dict[str, Any]:
    """Return the attributes of TreeEnsembleRegressor for `trees` (of sklearn.tree), each with `weight` to its vote."""
    sizes = [tree.node_count for tree in trees]
    tree_ids = np.repeat(np.arange(len(trees)), sizes)
    node_ids = np.concatenate([np.arange(size) for size in sizes])
    left, right = (np.concatenate([getattr(tree, f"children_{side}") for tree in trees]) for side in ("left", "right"))
    is_leaf = left == LEAF
    thresholds = at_most_in_float32(np.concatenate([tree.threshold for tree in trees]))
    votes = np.concatenate([tree.value[:, 0, :] for tree in trees])[is_leaf]
    return {
        "n_targets": 1,
        "aggregate_function": "SUM",
        "post_transform": "NONE",
        "nodes_treeids": tree_ids.tolist(),
        "nodes_nodeids": node_ids.tolist(),
        "nodes_featureids": np.where(is_leaf, 0, np.concatenate([tree.feature for tree in trees])).tolist(),
        "nodes_modes": np.where(is_leaf, "LEAF", "BRANCH_LEQ").tolist(),
        "nodes_values": np.where(is_leaf, np.float32(0), thresholds),
        "nodes_truenodeids": np.where(is_leaf, 0, left).tolist(),
        "nodes_falsenodeids": np.where(is_leaf, 0, right).tolist(),
        "nodes_missing_value_tracks_true": [0] * len(tree_ids),
        "nodes_hitrates": np.ones(len(tree_ids), dtype=np.float32),
        "target_treeids": tree_ids[is_leaf].tolist(),
        "target_nodeids": node_ids[is_leaf].tolist(),
        "target_ids": [0] * int(is_leaf.sum()),
        "target_weights": (votes[:, 1] * (weight / votes.sum(axis=1))).astype(np.float32),
    }


def at_most_in_float32(thresholds: np.ndarray) -> np.ndarray:
    """Return (n,) the largest float32 that is not above each threshold: x <= threshold holds for the same float32 x."""
    rounded = thresholds.astype(np.float32)
    return np.where(rounded > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)

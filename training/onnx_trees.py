"""Nodes of the forest in the ONNX graph, built from scikit-learn's arrays.

skl2onnx's own converter calls Python for every node of every tree, which takes longer than the fit, and puts all trees
into one operator. ONNX Runtime evaluates the trees of an operator row by row, so a forest larger than the processor's
cache is read from memory again for each row. Operators with few trees stay in the cache for all rows of a table, which
takes a half to a third of the time. A single row takes equally long either way.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto
from sklearn.ensemble import RandomForestClassifier

LEAF = -1
"""Child of a leaf in scikit-learn's arrays."""

TREES_TOGETHER = 10
"""Trees in one operator of the graph, chosen from 1, 5, 10, 25, 50 and 100. With more than 10, 1,000 rows take longer;
with fewer, a single row does."""


@dataclass(frozen=True)
class Nodes:
    """Operations and constants of a graph, added with the two objects that skl2onnx passes to a converter."""

    scope: Any
    container: Any

    def add(self, operation: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """Add an operation with one output; return the name of the output."""
        output = output or str(self.scope.get_unique_variable_name(operation.lower()))
        name = self.scope.get_unique_operator_name(operation)
        version = {"op_domain": "", "op_version": self.container.target_opset}
        self.container.add_node(operation, inputs, [output], name=name, **{**version, **attributes})
        return output

    def add_constant(self, values: list[float] | list[int]) -> str:
        """Add a constant with numbers of the same type; return its name."""
        name = str(self.scope.get_unique_variable_name("constant"))
        kind = TensorProto.INT64 if isinstance(values[0], int) else TensorProto.FLOAT
        self.container.add_initializer(name, kind, [len(values)], values)
        return name


def make_convertible(forest: RandomForestClassifier) -> RandomForestClassifier:
    """Return a copy of the forest that uses this converter and has no sampled rows.

    skl2onnx reads every attribute many times, and scikit-learn samples the rows of each tree again at every read. This
    took as long as the conversion itself.
    """
    forest = copy.copy(forest)
    forest.bootstrap = False
    forest.onnx_converter = lambda: convert_forest  # skl2onnx reads a custom converter from this attribute
    return forest


def convert_forest(scope: Any, operator: Any, container: Any) -> None:
    """Add a forest with two classes to the graph; its outputs are (n,) labels and (n, 2) probabilities."""
    forest, nodes = operator.raw_operator, Nodes(scope, container)
    trees = [estimator.tree_ for estimator in forest.estimators_]
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
    unit, half = nodes.add_constant([1.0]), nodes.add_constant([0.5])
    classes = nodes.add_constant([int(name) for name in forest.classes_])
    label, probabilities = operator.output_full_names
    negative = nodes.add("Sub", [unit, positive])
    nodes.add("Concat", [negative, positive], probabilities, axis=1)
    above = nodes.add("Greater", [positive, half])
    place = nodes.add("Cast", [above], to=TensorProto.INT64)
    flat = nodes.add("Reshape", [place, nodes.add_constant([-1])])
    nodes.add("Gather", [classes, flat], label, axis=0)


def build_attributes(trees: list[Any], weight: float) -> dict[str, Any]:
    """Return the attributes of TreeEnsembleRegressor for trees of sklearn.tree, each vote multiplied by `weight`."""

    def join(name: str) -> np.ndarray:
        return np.concatenate([getattr(tree, name) for tree in trees])

    sizes = [tree.node_count for tree in trees]
    tree_ids = np.repeat(np.arange(len(trees)), sizes)
    node_ids = np.concatenate([np.arange(size) for size in sizes])
    is_leaf = join("children_left") == LEAF
    votes = join("value")[is_leaf, 0]
    inner = {
        "nodes_featureids": join("feature"),
        "nodes_truenodeids": join("children_left"),
        "nodes_falsenodeids": join("children_right"),
    }
    return {
        "n_targets": 1,
        "aggregate_function": "SUM",
        "post_transform": "NONE",
        "nodes_treeids": tree_ids.tolist(),
        "nodes_nodeids": node_ids.tolist(),
        **{name: np.where(is_leaf, 0, values).tolist() for name, values in inner.items()},
        "nodes_modes": np.where(is_leaf, "LEAF", "BRANCH_LEQ").tolist(),
        "nodes_values": np.where(is_leaf, np.float32(0), round_down_to_float32(join("threshold"))),
        "nodes_missing_value_tracks_true": [0] * len(tree_ids),
        "nodes_hitrates": np.ones(len(tree_ids), dtype=np.float32),
        "target_treeids": tree_ids[is_leaf].tolist(),
        "target_nodeids": node_ids[is_leaf].tolist(),
        "target_ids": [0] * int(is_leaf.sum()),
        "target_weights": (votes[:, 1] * (weight / votes.sum(axis=1))).astype(np.float32),
    }


def round_down_to_float32(thresholds: np.ndarray) -> np.ndarray:
    """Return the (n,) largest float32 not above each threshold, so that x <= threshold selects the same float32 x."""
    rounded = thresholds.astype(np.float32)
    return np.where(rounded > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)

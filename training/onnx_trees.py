"""Nodes of a forest and of boosted trees in the ONNX graph, built from scikit-learn's arrays.

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
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

LEAF = -1
"""Child of a leaf in scikit-learn's arrays."""

TREES_TOGETHER = 10
"""Trees in one operator of the graph, chosen from 1, 5, 10, 25, 50 and 100. With more than 10, 1,000 rows take longer;
with fewer, a single row does."""


@dataclass(frozen=True)
class Tree:
    """Arrays of a tree with k nodes: a row goes to the left child if its feature is not above the threshold."""

    is_leaf: np.ndarray
    left: np.ndarray
    right: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    value: np.ndarray


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

    def add_doubles(self, values: np.ndarray) -> str:
        """Add a constant with doubles: (n,), or a scalar; return its name."""
        name = str(self.scope.get_unique_variable_name("constant"))
        self.container.add_initializer(name, TensorProto.DOUBLE, list(values.shape), values.ravel().tolist())
        return name


def make_convertible(classifier: Any) -> Any:
    """Return a copy of a classifier for skl2onnx: with the converter of this module if it is a forest or boosting.

    skl2onnx reads every attribute many times, and scikit-learn samples the rows of each tree again at every read. This
    took as long as the conversion itself, so the copy of a forest has no sampled rows.
    """
    classifier = copy.copy(classifier)
    if isinstance(classifier, RandomForestClassifier):
        classifier.bootstrap = False
        classifier.onnx_converter = lambda: convert_forest  # skl2onnx reads a custom converter from this attribute
    elif isinstance(classifier, HistGradientBoostingClassifier):
        classifier.onnx_converter = lambda: convert_boosting
    return classifier


def convert_forest(scope: Any, operator: Any, container: Any) -> None:
    """Add a forest with two classes to the graph; its outputs are (n,) labels and (n, 2) probabilities."""
    nodes = Nodes(scope, container)
    votes = add_trees(nodes, read_forest(operator.raw_operator), operator.input_full_names)
    add_outputs(nodes, operator, nodes.add("Sum", votes))


def convert_boosting(scope: Any, operator: Any, container: Any) -> None:
    """Add boosting with two classes to the graph; its outputs are (n,) labels and (n, 2) probabilities.

    skl2onnx 1.20 passes scikit-learn's numpy scalars to ONNX, which rejects them.
    """
    nodes = Nodes(scope, container)
    add_outputs(
        nodes,
        operator,
        add_sigmoid(nodes, add_boosting_scores(nodes, operator.raw_operator, operator.input_full_names)),
    )


def add_boosting_scores(nodes: Nodes, boosting: HistGradientBoostingClassifier, inputs: list[str]) -> str:
    """Add the (n, 1) sum of boosted trees, the log odds of class 1 (`decision_function`); return its name."""
    trees = [read_boosted_tree(tree.nodes) for (tree,) in boosting._predictors]
    start = nodes.add_constant([float(boosting._baseline_prediction.item())])
    return nodes.add("Sum", [*add_trees(nodes, trees, inputs), start])


def add_sigmoid(nodes: Nodes, scores: str) -> str:
    """Add the (n, 1) probability of a score; return its name.

    ONNX Runtime approximates the sigmoid of float32 numbers, and a higher score can get a lower probability. The
    sigmoid of doubles rounded to float32 never falls.
    """
    exact = nodes.add("Sigmoid", [nodes.add("Cast", [scores], to=TensorProto.DOUBLE)])
    return nodes.add("Cast", [exact], to=TensorProto.FLOAT)


def add_trees(nodes: Nodes, trees: list[Tree], inputs: list[str]) -> list[str]:
    """Add operators with at most `TREES_TOGETHER` trees each; return the names of their (n, 1) sums of leaves."""
    groups = [trees[start : start + TREES_TOGETHER] for start in range(0, len(trees), TREES_TOGETHER)]
    return [
        nodes.add("TreeEnsembleRegressor", inputs, op_domain="ai.onnx.ml", op_version=1, **build_attributes(group))
        for group in groups
    ]


def add_outputs(nodes: Nodes, operator: Any, positive: str) -> None:
    """Add the labels and probabilities of a classifier with two classes, from the (n, 1) probability of class 1."""
    unit, half = nodes.add_constant([1.0]), nodes.add_constant([0.5])
    classes = nodes.add_constant([int(name) for name in operator.raw_operator.classes_])
    label, probabilities = operator.output_full_names
    negative = nodes.add("Sub", [unit, positive])
    nodes.add("Concat", [negative, positive], probabilities, axis=1)
    above = nodes.add("Greater", [positive, half])
    place = nodes.add("Cast", [above], to=TensorProto.INT64)
    flat = nodes.add("Reshape", [place, nodes.add_constant([-1])])
    nodes.add("Gather", [classes, flat], label, axis=0)


def read_forest(forest: RandomForestClassifier) -> list[Tree]:
    """Return the trees of a forest, each with its share of the vote for class 1 in each leaf."""
    return [read_forest_tree(estimator.tree_, len(forest.estimators_)) for estimator in forest.estimators_]


def read_forest_tree(tree: Any, count: int) -> Tree:
    """Return a tree of sklearn.tree, one of `count`, with its share of the vote for class 1 in each leaf."""
    votes = tree.value[:, 0]
    return Tree(
        is_leaf=tree.children_left == LEAF,
        left=tree.children_left,
        right=tree.children_right,
        feature=tree.feature,
        threshold=tree.threshold,
        value=votes[:, 1] * (1 / count / votes.sum(axis=1)),
    )


def read_boosted_tree(tree: np.ndarray) -> Tree:
    """Return a tree of HistGradientBoostingClassifier, given as (k,) nodes; the leaves contain log odds."""
    return Tree(
        is_leaf=tree["is_leaf"].astype(bool),
        left=tree["left"],
        right=tree["right"],
        feature=tree["feature_idx"],
        threshold=tree["num_threshold"],
        value=tree["value"],
    )


def build_attributes(trees: list[Tree]) -> dict[str, Any]:
    """Return the attributes of TreeEnsembleRegressor for the sum of the trees' leaves."""

    def join(name: str) -> np.ndarray:
        return np.concatenate([getattr(tree, name) for tree in trees])

    sizes = [len(tree.is_leaf) for tree in trees]
    tree_ids = np.repeat(np.arange(len(trees)), sizes)
    node_ids = np.concatenate([np.arange(size) for size in sizes])
    is_leaf = join("is_leaf")
    inner = {
        "nodes_featureids": join("feature"),
        "nodes_truenodeids": join("left"),
        "nodes_falsenodeids": join("right"),
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
        "target_weights": join("value")[is_leaf].astype(np.float32),
    }


def round_down_to_float32(thresholds: np.ndarray) -> np.ndarray:
    """Return the (n,) largest float32 not above each threshold, so that x <= threshold selects the same float32 x."""
    rounded = thresholds.astype(np.float32)
    return np.where(rounded > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)

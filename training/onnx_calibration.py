"""Nodes of a calibrated classifier in the ONNX graph.

skl2onnx's own converter takes the probability of the nearest point of an isotonic map, where scikit-learn interpolates
between two points.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from onnx import TensorProto
from skl2onnx._supported_operators import sklearn_operator_name_map
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.isotonic import IsotonicRegression

from training.onnx_trees import (
    Nodes,
    add_boosting_scores,
    add_outputs,
    add_sigmoid,
    add_trees,
    make_convertible,
    read_forest,
)


def make_calibrated_convertible(classifier: Any) -> Any:
    """Return a copy of a classifier for skl2onnx, with the converter of this module if it is calibrated."""
    if not isinstance(classifier, CalibratedClassifierCV):
        return make_convertible(classifier)
    calibrated = copy.copy(classifier)
    calibrated.estimator = make_convertible(classifier.calibrated_classifiers_[0].estimator)
    calibrated.onnx_converter = lambda: convert_calibrated  # skl2onnx reads a custom converter from this attribute
    return calibrated


def convert_calibrated(scope: Any, operator: Any, container: Any) -> None:
    """Add a calibrated classifier with two classes to the graph; its outputs are (n,) labels, (n, 2) probabilities."""
    nodes, calibrated = Nodes(scope, container), operator.raw_operator
    (calibrator,) = calibrated.calibrated_classifiers_[0].calibrators
    scores = add_scores(nodes, calibrated.estimator, operator)
    add_map = add_isotonic_map if isinstance(calibrator, IsotonicRegression) else add_sigmoid_map
    add_outputs(nodes, operator, add_map(nodes, calibrator, scores))


def add_scores(nodes: Nodes, classifier: Any, operator: Any) -> str:
    """Add the (n, 1) scores that scikit-learn calibrates: decision function, or probability of class 1."""
    if isinstance(classifier, RandomForestClassifier):
        return add_exact_votes(nodes, classifier, operator.input_full_names)
    if isinstance(classifier, HistGradientBoostingClassifier):
        return add_boosting_scores(nodes, classifier, operator.input_full_names)
    inner = nodes.scope.declare_local_operator(sklearn_operator_name_map[type(classifier)], classifier)
    inner.inputs = operator.inputs
    inner.outputs.append(nodes.scope.declare_local_variable("uncalibrated_label", Int64TensorType()))
    inner.outputs.append(nodes.scope.declare_local_variable("scores", FloatTensorType()))
    if hasattr(classifier, "decision_function"):
        for options in (nodes.container, nodes.scope):
            options.add_options(id(classifier), {"raw_scores": True})
    last = nodes.add_constant([-1])  # the score of class 1
    return nodes.add("Gather", [inner.outputs[1].full_name, last], axis=1)


def add_exact_votes(nodes: Nodes, forest: RandomForestClassifier, inputs: list[str]) -> str:
    """Add the (n, 1) mean vote of a forest's trees as doubles: a steep map multiplies the rounding errors of a sum."""
    groups = nodes.add("Concat", add_trees(nodes, read_forest(forest), inputs), axis=1)
    exact = nodes.add("Cast", [groups], to=TensorProto.DOUBLE)
    return nodes.add("ReduceSum", [exact, nodes.add_constant([1])])


def add_sigmoid_map(nodes: Nodes, calibrator: Any, scores: str) -> str:
    """Add the (n, 1) probabilities 1 / (1 + exp(a * score + b)); return their name."""
    exact = nodes.add("Cast", [scores], to=TensorProto.DOUBLE)
    product = nodes.add("Mul", [exact, nodes.add_doubles(np.array([-calibrator.a_]))])
    return add_sigmoid(nodes, nodes.add("Add", [product, nodes.add_doubles(np.array([-calibrator.b_]))]))


def add_isotonic_map(nodes: Nodes, calibrator: IsotonicRegression, scores: str) -> str:
    """Add the (n, 1) probabilities between the points of an isotonic map, which is constant outside; return their name.

    The map is the sum of its rises, of which each counts from 0 to 1 between its two points.
    """
    x, y = calibrator.X_thresholds_, calibrator.y_thresholds_
    rising = np.flatnonzero(np.diff(y) > 0)
    starts, widths, rises = x[:-1][rising], np.diff(x)[rising], np.diff(y)[rising]
    if not len(rising):
        starts, widths, rises = np.zeros(1), np.ones(1), np.zeros(1)
    exact = nodes.add("Cast", [scores], to=TensorProto.DOUBLE)
    shares = nodes.add("Div", [nodes.add("Sub", [exact, nodes.add_doubles(starts)]), nodes.add_doubles(widths)])
    limits = [nodes.add_doubles(np.array(0.0)), nodes.add_doubles(np.array(1.0))]
    risen = nodes.add("MatMul", [nodes.add("Clip", [shares, *limits]), nodes.add_doubles(rises[:, None])])
    return nodes.add("Cast", [nodes.add("Add", [risen, nodes.add_doubles(y[:1])])], to=TensorProto.FLOAT)

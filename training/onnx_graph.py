"""ONNX graph of a fitted pipeline: one input per raw column, named like the column, and probabilities as output."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import onnx
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.pipeline import Pipeline

from stepkit.errors import BadParameter
from training.onnx_calibration import make_calibrated_convertible
from training.onnx_trees import Nodes
from training.pipeline import CODES, NUMERIC

PROBABILITIES = "probabilities"
PREFIX = "graph/"
"""Prefix of all inner names of the graph, so that a column may have a name that skl2onnx uses."""


def to_graph(model: Pipeline, inputs: list[str], text: list[str]) -> onnx.ModelProto:
    """Convert the pipeline to an ONNX graph with one named (n, 1) input per raw column, in the order of `inputs`.

    Raises:
        BadParameter: a column has the name of the graph's output.
    """
    if PROBABILITIES in inputs:
        raise BadParameter(f"column '{PROBABILITIES}': the model's output has this name. Rename the column.")
    types = [(name, StringTensorType([None, 1]) if name in text else FloatTensorType([None, 1])) for name in inputs]
    (encode, encoder), (name, classifier) = model.steps
    encoder = copy.deepcopy(encoder)
    encoder.named_transformers_[CODES][-1].onnx_converter = lambda: convert_codes
    if isinstance(numbers := encoder.named_transformers_[NUMERIC], Pipeline):
        numbers[-1].onnx_converter = lambda: convert_scaler
    classifier = make_calibrated_convertible(classifier)
    pipeline = Pipeline([(encode, encoder), (name, classifier)])
    converted: onnx.ModelProto = to_onnx(pipeline, initial_types=types, options={id(classifier): {"zipmap": False}})
    name_inputs(converted.graph, inputs)
    return converted


def convert_codes(scope: Any, operator: Any, container: Any) -> None:
    """Add the one-hot encoding of (n, k) numeric codes to (n, all categories), by comparison with each code.

    skl2onnx's own converter casts codes to whole numbers: it reads 2.5 as 2 and -0.5 as 0.
    """
    nodes, categories = Nodes(scope, container), operator.raw_operator.categories_
    columns = np.repeat(np.arange(len(categories)), [len(category) for category in categories])
    repeated = nodes.add("Gather", [*operator.input_full_names, nodes.add_constant(columns.tolist())], axis=1)
    codes = nodes.add_constant(np.concatenate(categories).astype(float).tolist())
    equal = nodes.add("Equal", [repeated, codes])
    nodes.add("Cast", [equal], operator.outputs[0].full_name, to=onnx.TensorProto.FLOAT)


def convert_scaler(scope: Any, operator: Any, container: Any) -> None:
    """Add the scaling of (n, k) numbers, computed with doubles.

    skl2onnx's own converter subtracts the mean as float32, which loses the digits of a number such as a year.
    """
    nodes, scaler = Nodes(scope, container), operator.raw_operator
    numbers = nodes.add("Cast", operator.input_full_names, to=onnx.TensorProto.DOUBLE)
    centred = nodes.add("Sub", [numbers, nodes.add_doubles(scaler.mean_)])
    scaled = nodes.add("Div", [centred, nodes.add_doubles(scaler.scale_)])
    nodes.add("Cast", [scaled], operator.outputs[0].full_name, to=onnx.TensorProto.FLOAT)


def name_inputs(graph: onnx.GraphProto, inputs: list[str]) -> None:
    """Name the graph's inputs like the columns: skl2onnx turns names into identifiers ("mean radius": mean_radius)."""
    names = {value.name: name for value, name in zip(graph.input, inputs, strict=True)}
    names[PROBABILITIES] = PROBABILITIES
    names[""] = ""  # an unused optional input of an operation

    def to_new_name(name: str) -> str:
        return names.get(name, PREFIX + name)

    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = to_new_name(value.name)
    for node in graph.node:
        node.input[:] = map(to_new_name, node.input)
        node.output[:] = map(to_new_name, node.output)

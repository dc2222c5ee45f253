"""The ONNX graph of a fitted pipeline: one input for each raw column, by the column's own name, and probabilities."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import onnx
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline

from random_forest.pipeline import CODES
from random_forest.trees import Nodes, make_convertible
from stepkit.errors import BadParameter

PROBABILITIES = "probabilities"
PREFIX = "graph/"
"""Prefix of the names of values within the graph, so that a column may be called like any of skl2onnx's."""


def to_graph(model: Pipeline, inputs: list[str], text: list[str]) -> onnx.ModelProto:
    """Convert the pipeline to an ONNX graph with one named (n, 1) input per raw column, in the order of `inputs`.

    Raises:
        BadParameter: a column has the name of the graph's answer.
    """
    if PROBABILITIES in inputs:
        raise BadParameter(f"no input column may be called '{PROBABILITIES}', as the model's answer is. Rename it.")
    types = [(name, StringTensorType([None, 1]) if name in text else FloatTensorType([None, 1])) for name in inputs]
    (encode, encoder), (name, classifier) = model.steps
    encoder = copy.deepcopy(encoder)
    encoder.named_transformers_[CODES][-1].onnx_converter = lambda: convert_codes
    if isinstance(classifier, RandomForestClassifier):
        classifier = make_convertible(classifier)
    same = Pipeline([(encode, encoder), (name, classifier)])
    converted: onnx.ModelProto = to_onnx(same, initial_types=types, options={id(classifier): {"zipmap": False}})
    name_inputs(converted.graph, inputs)
    return converted


def convert_codes(scope: Any, operator: Any, container: Any) -> None:
    """Add the one-hot encoding of (n, k) numeric codes, (n, all categories): a value is a code only if it equals it.

    skl2onnx's own converter casts codes to whole numbers, so that 2.5 would be read as 2 and -0.5 as 0.
    """
    nodes, categories = Nodes(scope, container), operator.raw_operator.categories_
    columns = np.repeat(np.arange(len(categories)), [len(codes) for codes in categories])
    repeated = nodes.add("Gather", [*operator.input_full_names, nodes.add_constant(columns.tolist())], axis=1)
    known = nodes.add_constant(np.concatenate(categories).astype(float).tolist())
    equal = nodes.add("Equal", [repeated, known])
    nodes.add("Cast", [equal], operator.outputs[0].full_name, to=onnx.TensorProto.FLOAT)


def name_inputs(graph: onnx.GraphProto, inputs: list[str]) -> None:
    """Give the graph's inputs the columns' names: skl2onnx makes identifiers of them ("mean radius": mean_radius)."""
    given = {value.name: name for value, name in zip(graph.input, inputs, strict=True)}
    given[PROBABILITIES] = PROBABILITIES
    given[""] = ""  # an operation's optional input that is not given

    def named(name: str) -> str:
        return given.get(name, PREFIX + name)

    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = named(value.name)
    for node in graph.node:
        node.input[:] = map(named, node.input)
        node.output[:] = map(named, node.output)

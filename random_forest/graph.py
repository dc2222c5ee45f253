"""The ONNX graph of a fitted pipeline: one input for each raw column, by the column's own name, and probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline

from random_forest.codes import exact
from random_forest.trees import convertible
from stepkit.errors import BadParameter

PROBABILITIES = "probabilities"
OWN = "graph/"
"""What the names of values within the graph begin with, so that a column may be called like any of skl2onnx's."""


def to_graph(model: Pipeline, inputs: list[str], text: list[str]) -> onnx.ModelProto:
    """Convert the pipeline to an ONNX graph with one named (n, 1) input per raw column, in the order of `inputs`.

    Raises:
        BadParameter: a column has the name of the graph's answer.
    """
    if PROBABILITIES in inputs:
        raise BadParameter(f"no input column may be called '{PROBABILITIES}', as the model's answer is. Rename it.")
    types = [(name, StringTensorType([None, 1]) if name in text else FloatTensorType([None, 1])) for name in inputs]
    (encode, encoder), (name, classifier) = model.steps
    if isinstance(classifier, RandomForestClassifier):
        classifier = convertible(classifier)
    same = Pipeline([(encode, exact(encoder)), (name, classifier)])
    converted: onnx.ModelProto = to_onnx(same, initial_types=types, options={id(classifier): {"zipmap": False}})
    name_inputs(converted.graph, inputs)
    return converted


def name_inputs(graph: onnx.GraphProto, inputs: Sequence[str]) -> None:
    """Give the graph's inputs the columns' names: skl2onnx makes identifiers of them ("mean radius": mean_radius)."""
    given = {value.name: name for value, name in zip(graph.input, inputs, strict=True)}
    given[PROBABILITIES] = PROBABILITIES

    def named(name: str) -> str:
        return given.get(name, OWN + name) if name else ""  # an operation's optional input that is not given

    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = named(value.name)
    for node in graph.node:
        node.input[:] = [named(name) for name in node.input]
        node.output[:] = [named(name) for name in node.output]

"""The one-hot encoding of numeric codes in the ONNX graph: a value is a code only if it is equal to it.

skl2onnx's own converter casts codes to whole numbers, so that 2.5 would be read as 2 and -0.5 as 0.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from onnx import TensorProto
from sklearn.compose import ColumnTransformer

from random_forest.pipeline import CODES
from random_forest.trees import add, constant, new


def exact(encoder: ColumnTransformer) -> ColumnTransformer:
    """Return the same encoder, whose codes skl2onnx takes with this converter; texts keep skl2onnx's own."""
    encoder = copy.deepcopy(encoder)
    encoder.named_transformers_[CODES][-1].onnx_converter = lambda: convert
    return encoder


def convert(scope: Any, operator: Any, container: Any) -> None:
    """Add the encoding of (n, k) codes to the graph, (n, all categories); called by skl2onnx with its own objects."""
    categories = operator.raw_operator.categories_
    columns = np.repeat(np.arange(len(categories)), [len(codes) for codes in categories])
    (codes,) = operator.input_full_names
    repeated = new(scope, container, "Gather", [codes, constant(scope, container, columns.tolist())], axis=1)
    known = constant(scope, container, np.concatenate(categories).astype(float).tolist())
    equal = new(scope, container, "Equal", [repeated, known])
    add(scope, container, "Cast", [equal], operator.outputs[0].full_name, to=TensorProto.FLOAT)

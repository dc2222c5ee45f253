"""The graph of a model, run by ONNX Runtime: n raw rows -> their probabilities and classes. It needs no MLflow."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# before the import: ONNX Runtime would tell its makers of each graph that it loads
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime

from prediction_log.rows import encode_feature_table, encode_features
from serve.errors import ModelFailed

PROBABILITIES = "probabilities"
MAX_ROUNDING_ERROR = 1e-6  # a sum of float32 votes may leave the range from 0 to 1 by its last digits


@dataclass(frozen=True)
class Rows:
    """n raw rows, column by column; a missing number is NaN, a missing text the empty text.

    `numbers` is a k x n array of doubles in the order of `names`; `texts` holds n texts for each text column.
    """

    names: tuple[str, ...]
    numbers: np.ndarray
    texts: dict[str, np.ndarray]
    count: int

    def slice(self, start: int, end: int) -> Rows:
        """Return the rows from `start` up to, not including, `end`; they share memory with these."""
        texts = {name: column[start:end] for name, column in self.texts.items()}
        return Rows(self.names, self.numbers[:, start:end], texts, min(end, self.count) - start)

    def inputs(self) -> dict[str, np.ndarray]:
        """Return the graph's inputs: one (n, 1) array per column, float32 or text."""
        with np.errstate(over="ignore"):  # beyond float32 means infinity, as for the model's own predictor
            numbers = self.numbers.astype(np.float32)[:, :, None]
        texts = {name: column.reshape(-1, 1) for name, column in self.texts.items()}
        return {**dict(zip(self.names, numbers, strict=True)), **texts}

    def to_json(self, hidden: frozenset[str] = frozenset()) -> list[str]:
        """Return the n rows as JSON for the record, with null in place of the hidden columns."""
        if not self.texts and (rows := encode_feature_table(self.names, self.numbers.T, hidden)):
            return rows
        return [encode_features(row, hidden) for row in self.dictionaries()]

    def dictionaries(self) -> list[dict[str, Any]]:
        """Return the n rows by column; None stands for a missing value."""
        numbers = self.numbers.astype(object)
        numbers[np.isnan(self.numbers)] = None
        texts = [[text or None for text in column] for column in self.texts.values()]
        names = (*self.names, *self.texts)
        return [dict(zip(names, row, strict=True)) for row in zip(*numbers.tolist(), *texts, strict=True)]


@dataclass(frozen=True)
class Scores:
    """The answer for n rows: probability of the positive class, and the class at the model's threshold."""

    probability: list[float]
    predicted: list[int]


@dataclass(frozen=True)
class GraphFile:
    """What a graph on disk is asked with: its columns, which of them are text, and from where on the class is 1."""

    path: Path
    names: tuple[str, ...]
    text: tuple[str, ...]
    threshold: float


@dataclass(frozen=True)
class Graph:
    """The graph of a version of the registered model `name`; scoring is safe from any thread."""

    name: str
    version: str
    names: tuple[str, ...]
    text: tuple[str, ...]
    threshold: float
    session: onnxruntime.InferenceSession

    @property
    def numeric(self) -> tuple[str, ...]:
        return tuple(name for name in self.names if name not in self.text)

    def score(self, rows: Rows) -> Scores:
        """Return the scores of n rows; raise ModelFailed where the graph returns something else than probabilities."""
        try:
            answered = self.session.run([PROBABILITIES], rows.inputs())[0][:, 1].astype(float)
        except Exception as error:  # ONNX Runtime has a class for each cause, and its messages may repeat values
            raise ModelFailed(f"{self.name} version {self.version} failed: {type(error).__name__}.") from error
        if not ((answered >= -MAX_ROUNDING_ERROR) & (answered <= 1 + MAX_ROUNDING_ERROR)).all():  # nor is NaN
            raise ModelFailed(
                f"{self.name} version {self.version} returned a probability that is not a number from 0 to 1. "
                "Promote another version."
            )
        probability = np.clip(answered, 0.0, 1.0)
        return Scores(probability.tolist(), (probability >= self.threshold).astype(int).tolist())


def open_graph(name: str, version: str, found: GraphFile) -> Graph:
    """Load a graph; its file is not needed after that."""
    options = onnxruntime.SessionOptions()
    # a row takes 0.03 ms: requests beside each other use the cores better than threads within one
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(found.path), options, providers=["CPUExecutionProvider"])
    return Graph(name, version, found.names, found.text, found.threshold, session)

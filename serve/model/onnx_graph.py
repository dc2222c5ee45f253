"""A model's ONNX graph, run by ONNX Runtime without MLflow: n raw rows -> n probabilities and classes."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

# ONNX Runtime sends telemetry for every session unless this is set before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime

from prediction_log.rows import encode_feature_table, encode_features
from serve.errors import ModelFailed, ReasonsUnavailable
from stepkit.model.reasons import load_explainer_code
from stepkit.settings.model import NOT_CALIBRATED
from stepkit.table.columns import Columns, read_columns

PROBABILITIES = "probabilities"
MAX_DIFFERENCE = 1e-6
"""With another number of threads, ONNX Runtime adds float32 votes in another order: up to 3e-7 apart."""
MAX_ROUNDING_ERROR = 1e-6  # A sum of float32 votes may exceed the range 0 to 1 by its last digits.


@dataclass(frozen=True)
class Rows:
    """n raw rows by column, with NaN for a missing number and an empty text for a missing text.

    Attributes:
        names: the k numeric columns.
        numbers: k x n doubles.
        texts: n texts for each text column.
        count: n.
        recorded: n values of each column that is recorded, but is not an input: protected columns.
    """

    names: tuple[str, ...]
    numbers: np.ndarray
    texts: dict[str, np.ndarray]
    count: int
    recorded: dict[str, list[Any]] = field(default_factory=dict)

    def slice(self, start: int, end: int) -> Rows:
        """Return the rows from `start` up to, but not including, `end`, as views of the same memory."""
        texts = {name: column[start:end] for name, column in self.texts.items()}
        return Rows(self.names, self.numbers[:, start:end], texts, min(end, self.count) - start)

    def to_inputs(self) -> dict[str, np.ndarray]:
        """Return the graph's inputs: one (n, 1) array for each column, float32 or text."""
        with np.errstate(over="ignore"):  # overflows to infinity, as in predictor.py
            numbers = self.numbers.astype(np.float32)[:, :, None]
        texts = {name: column.reshape(-1, 1) for name, column in self.texts.items()}
        return {**dict(zip(self.names, numbers, strict=True)), **texts}

    def to_json(self, hidden: frozenset[str] = frozenset()) -> list[str]:
        """Return n JSON objects for the prediction log, with null in the hidden columns."""
        if self.recorded:
            places = [dict(zip(self.recorded, row, strict=True)) for row in zip(*self.recorded.values(), strict=True)]
            return [encode_features({**row, **more}, hidden) for row, more in zip(self.to_dicts(), places, strict=True)]
        if not self.texts and (rows := encode_feature_table(self.names, self.numbers.T, hidden)):
            return rows
        return [encode_features(row, hidden) for row in self.to_dicts()]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return n rows by column, with None for a missing value."""
        numbers = self.numbers.astype(object)
        numbers[np.isnan(self.numbers)] = None
        texts = [[text or None for text in column] for column in self.texts.values()]
        names = (*self.names, *self.texts)
        return [dict(zip(names, row, strict=True)) for row in zip(*numbers.tolist(), *texts, strict=True)]


@dataclass(frozen=True)
class Scores:
    """Scores of n rows: probability of the positive class, and the class at the model's threshold."""

    probability: list[float]
    predicted: list[int]


@dataclass(frozen=True)
class GraphFile:
    """Graph on disk, with its input columns, the text ones among them, the threshold for class 1, and its calibration.

    Attributes:
        calibration: sigmoid, isotonic or none.
        protected: protected columns of the data set; they need not be inputs.
        reasons: settings of the reasons, with the reference row; None for a model of an earlier release.
        code: file with the packed code that computes the reasons.
        description: file with the description of the data set; None for a model of an earlier release.
    """

    path: Path
    names: tuple[str, ...]
    text: tuple[str, ...]
    threshold: float
    calibration: str = NOT_CALIBRATED
    protected: tuple[str, ...] = ()
    reasons: dict[str, Any] | None = None
    code: Path | None = None
    description: Path | None = None


@dataclass(frozen=True)
class Graph:
    """Loaded graph of a version of the registered model `name`; scoring is thread-safe.

    Attributes:
        explainer: the Explainer of the code that is packed with the version; None for a model of an earlier release.
        reasons, protected: see GraphFile.
        description: description of the data set; None for a model of an earlier release.
    """

    name: str
    version: str
    names: tuple[str, ...]
    text: tuple[str, ...]
    threshold: float
    session: onnxruntime.InferenceSession
    calibration: str = field(default=NOT_CALIBRATED, kw_only=True)
    protected: tuple[str, ...] = field(default=(), kw_only=True)
    reasons: dict[str, Any] | None = field(default=None, kw_only=True)
    explainer: Any = field(default=None, kw_only=True)
    description: Columns | None = field(default=None, kw_only=True)

    @property
    def numeric(self) -> tuple[str, ...]:
        """Numeric input columns, in the model's order."""
        return tuple(name for name in self.names if name not in self.text)

    @property
    def recorded(self) -> tuple[str, ...]:
        """Protected columns that are not inputs. The scorer records their values if a caller sends them."""
        return tuple(name for name in self.protected if name not in self.names)

    def score(self, rows: Rows) -> Scores:
        """Return the scores of n rows; raise ModelFailed if the graph fails or returns values outside 0 to 1."""
        probability = compute_probabilities(self.session, f"{self.name} version {self.version}", rows.to_inputs())
        return Scores(probability.tolist(), (probability >= self.threshold).astype(int).tolist())

    def explain(self, rows: Rows, scores: Scores, count: int) -> list[dict[str, Any]]:
        """Return `reasons`, `baseline`, `protected_effect` and `other` of n scored rows, with `count` reasons each.

        Raises:
            ReasonsUnavailable: the version has no reference row.
            ModelFailed: the graph fails.
        """
        if self.explainer is None:
            raise ReasonsUnavailable(self.explain_missing_reasons())
        explanations: list[dict[str, Any]] = self.explainer.explain(
            rows.to_inputs(), rows.to_dicts(), scores.predicted, count
        )
        return explanations

    def explain_missing_reasons(self) -> str:
        """Return why a version without an explainer cannot give reasons."""
        return (
            f"{self.name} version {self.version}: no reference row, so its answers have no reasons. An earlier release "
            "trained it. Train again to get reasons."
        )


def compute_probabilities(
    session: onnxruntime.InferenceSession, subject: str, inputs: dict[str, np.ndarray]
) -> np.ndarray:
    """Return the (n,) probabilities of class 1; raise ModelFailed if the graph fails or leaves the range 0 to 1."""
    try:
        output = session.run([PROBABILITIES], inputs)[0][:, 1].astype(float)
    except Exception as error:  # ONNX Runtime has many error classes; messages may repeat values.
        raise ModelFailed(f"{subject}: scoring failed ({type(error).__name__}).") from error
    if not ((output >= -MAX_ROUNDING_ERROR) & (output <= 1 + MAX_ROUNDING_ERROR)).all():  # also for NaN
        raise ModelFailed(
            f"{subject}: returned a probability that is not a number from 0 to 1. Promote another version."
        )
    probability: np.ndarray = np.clip(output, 0.0, 1.0)
    return probability


def open_graph(name: str, version: str, file: GraphFile) -> Graph:
    """Load a graph and its explainer; the files are not needed afterwards."""
    options = onnxruntime.SessionOptions()
    # A row takes 0.03 ms, so parallel requests use the cores better than threads within one request.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file.path), options, providers=["CPUExecutionProvider"])
    explainer = None
    if file.reasons and file.code:
        score = partial(compute_probabilities, session, f"{name} version {version}")
        code = load_explainer_code(str(file.code))
        explainer = code.Explainer(file.reasons, list(file.names), list(file.text), score)
    return Graph(
        name,
        version,
        file.names,
        file.text,
        file.threshold,
        session,
        calibration=file.calibration,
        protected=file.protected,
        reasons=file.reasons,
        explainer=explainer,
        description=read_columns(file.description) if file.description else None,
    )

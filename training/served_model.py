"""Exported model: raw rows in, probability and class out, computed by ONNX Runtime.

MLflow stores this file as the model's code ("models from code"). Loading a model runs this file and the ONNX graph, and
unpickles nothing. This file may import only the packages of `REQUIREMENTS` in export.py.

On MLflow's own server with PREDICTION_LOG_URL set, the model writes each prediction to the prediction log before it is
sent. The code for that is one of the model's artifacts. It is imported only in this case.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

# ONNX Runtime sends telemetry for every graph that it loads, unless this is set before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import mlflow
import numpy as np
import onnxruntime
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext

PROBABILITY = "probability"
CLASS = "class"

EDGE = 1e-6
"""Tolerance for probabilities outside of 0 to 1: sums of float32 votes have rounding errors in their last digits."""

LOG_URL = "PREDICTION_LOG_URL"
RECORD = "record"
"""Name of the artifact with the code of the prediction log and of the reasons."""

REASONS = "reasons"
"""Inference parameter with the number of reasons of each answer, and the column with them."""
REASONS_CODE = "stepkit/model/reasons.py"

SERVING_VARIABLES = ("__pyfunc_model_path__", "_MLFLOW_IS_IN_SERVING_ENVIRONMENT")
"""MLflow sets one of these variables in a process of `mlflow models serve` or `predict`. Other predictions, for example
in evaluate or on Spark, are not for a caller and are not logged."""


def load_recorder(artifacts: dict[str, str]) -> Any:
    """Return the Recorder of prediction_log.mlflow_recorder; None if this process does not log predictions."""
    if not os.environ.get(LOG_URL) or not any(name in os.environ for name in SERVING_VARIABLES):
        return None
    code = artifacts[RECORD]
    sys.path.insert(0, code)  # first, so that the model's own copy is imported and not one in the working directory
    return importlib.import_module("prediction_log.mlflow_recorder").Recorder(Path(code).parents[1])


def load_module(path: Path) -> Any:
    """Return the module in a file, which need not be on Python's path."""
    spec: Any = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def open_session(graph: str | bytes) -> onnxruntime.InferenceSession:
    """Open a graph with a single thread, so that the trees' votes are always added in the same order."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def compute_probabilities(session: onnxruntime.InferenceSession, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """Return the (n,) probabilities of class 1, clipped to 0 to 1.

    Raises:
        MlflowException: a value is not a probability; MLflow's server responds with status 500.
    """
    probabilities: np.ndarray = session.run(["probabilities"], inputs)[0][:, 1].astype(float)
    if not ((probabilities >= -EDGE) & (probabilities <= 1 + EDGE)).all():  # False for NaN too
        raise MlflowException("the model returned a probability that is not a number from 0 to 1.", INTERNAL_ERROR)
    return probabilities.clip(0.0, 1.0)


def to_inputs(rows: pd.DataFrame, names: list[str], text: list[str]) -> dict[str, np.ndarray]:
    """Return the graph's inputs for n raw rows: one (n, 1) array per column, float32 or text.

    A missing number becomes NaN, a missing text becomes "". The graph imputes or ignores both.
    """
    return {name: (_to_texts if name in text else _to_numbers)(rows[name]).reshape(-1, 1) for name in names}


def _to_numbers(column: pd.Series) -> np.ndarray:
    return column.to_numpy(dtype=np.float32, na_value=np.nan)


def _to_texts(column: pd.Series) -> np.ndarray:
    return column.astype(object).where(column.notna(), "").astype(str).to_numpy(dtype=object)


class Predictor(PythonModel):
    """MLflow model that predicts the probability of class 1, and the class at the model's threshold."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the settings, the graph and, on MLflow's own server, the code of the prediction log."""
        settings = json.loads(Path(context.artifacts["settings"]).read_text(encoding="utf-8"))
        self.names: list[str] = settings["columns"]
        self.text: list[str] = settings["text"]
        self.threshold: float = settings["threshold"]
        self.session = open_session(context.artifacts["onnx"])
        self.recorder = load_recorder(context.artifacts)
        self.reasons: dict[str, Any] = settings.get(REASONS, {})
        self.reasons_code = Path(context.artifacts.get(RECORD, ""), REASONS_CODE)
        self.explainer: Any = None

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return n rows of `probability` (0 to 1) and `class` (0 or 1), with the index of `model_input`.

        With the parameter `reasons`, each row also has that many `reasons`, the probability of the reference row
        (`baseline`), and the effects that are not listed: `protected_effect` and `other`.

        Raises:
            MlflowException: `reasons` is out of range, or the prediction log is unavailable, so the prediction is not
                returned.
        """
        started = time.perf_counter()
        count = self.verify_count((params or {}).get(REASONS) or 0)
        inputs = to_inputs(model_input, self.names, self.text)
        probability = compute_probabilities(self.session, inputs)
        classes = (probability >= self.threshold).astype(int)
        answer = pd.DataFrame({PROBABILITY: probability, CLASS: classes}, index=model_input.index)
        if count:
            explanations = self.explain(inputs, model_input, classes.tolist(), count)
            answer = pd.concat([answer, pd.DataFrame(explanations, index=model_input.index)], axis=1)
        if self.recorder:
            self.recorder.record(model_input, probability.tolist(), classes.tolist(), started)
        return answer

    def verify_count(self, count: int) -> int:
        """Return the number of reasons; raise MlflowException, which is HTTP status 400, if it is out of range."""
        if not 0 <= count <= len(self.names):
            raise MlflowException(
                f"params.{REASONS}: out of range (found {count}, expected 0 to {len(self.names)}, the number of "
                "columns).",
                INVALID_PARAMETER_VALUE,
            )
        return count

    def explain(
        self, inputs: dict[str, np.ndarray], rows: pd.DataFrame, classes: list[int], count: int
    ) -> list[dict[str, Any]]:
        """Return the reasons of n rows, computed by the code that is packed with this model."""
        values = rows[self.names].astype(object).to_dict("records")
        explanations: list[dict[str, Any]] = self.load_explainer().explain(inputs, values, classes, count)
        return explanations

    def compute_effects(self, rows: pd.DataFrame) -> np.ndarray:
        """Return the (n, k) effects of the model's k columns on the probabilities of n raw rows."""
        effects: np.ndarray = self.load_explainer().compute_effects(to_inputs(rows, self.names, self.text))
        return effects

    def load_explainer(self) -> Any:
        """Return the Explainer of the packed code, which is loaded once."""
        if self.explainer is None:
            score = partial(compute_probabilities, self.session)
            code = load_module(self.reasons_code)
            self.explainer = code.Explainer(self.reasons, self.names, self.text, score)
        return self.explainer


mlflow.models.set_model(Predictor())

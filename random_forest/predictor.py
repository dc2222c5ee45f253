"""The exported model: raw rows in, probability and class out, computed by ONNX Runtime.

MLflow stores this file as the model's code ("models from code"), so loading a model runs this file and the
ONNX graph, and unpickles nothing. It may import only what `REQUIREMENTS` in export.py names.

Served by MLflow with PREDICTION_LOG_URL set, it puts each answer into the prediction log before it is sent. The code
for that lies among the model's artifacts, so that it is at hand wherever the model is; else it is not looked at.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

# before the import: ONNX Runtime would tell its makers of each graph that it loads
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import mlflow
import numpy as np
import onnxruntime
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR
from mlflow.pyfunc import PythonModel, PythonModelContext

PROBABILITY = "probability"
CLASS = "class"

EDGE = 1e-6
"""A sum of float32 votes may leave the range from 0 to 1 by its last digits; any further is not a probability."""

LOG_URL = "PREDICTION_LOG_URL"
RECORD = "record"
"""The artifact that holds the code of the prediction log."""

SERVING_VARIABLES = ("__pyfunc_model_path__", "_MLFLOW_IS_IN_SERVING_ENVIRONMENT")
"""Variables of which MLflow sets one in a process of `mlflow models serve` or `predict`. What a model is asked anywhere
else (when it is evaluated, or by Spark) was asked by no client, and is not recorded."""


def load_recorder(artifacts: dict[str, str]) -> Any:
    """Return the Recorder of prediction_log.mlflow_recorder for this process, None if nothing shall be recorded."""
    if not os.environ.get(LOG_URL) or not any(name in os.environ for name in SERVING_VARIABLES):
        return None
    code = artifacts[RECORD]
    sys.path.insert(0, code)  # first: the model's own copy, whatever else lies in the working directory
    return importlib.import_module("prediction_log.mlflow_recorder").Recorder(Path(code).parents[1])


def open_session(graph: str | bytes) -> onnxruntime.InferenceSession:
    """Open a graph for one thread: the trees' votes are added in the same order on any machine, beside any rows."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def compute_probabilities(session: onnxruntime.InferenceSession, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """Return the n probabilities of the positive class; a sum of float32 votes may exceed 1 by its last digits.

    Raises:
        MlflowException: the graph returned something else than probabilities; MLflow's server answers it with 500.
    """
    answered: np.ndarray = session.run(["probabilities"], inputs)[0][:, 1].astype(float)
    if not ((answered >= -EDGE) & (answered <= 1 + EDGE)).all():  # nor is NaN
        raise MlflowException("the model returned a probability that is not a number from 0 to 1.", INTERNAL_ERROR)
    return answered.clip(0.0, 1.0)


def to_inputs(rows: pd.DataFrame, names: list[str], text: list[str]) -> dict[str, np.ndarray]:
    """Return the graph's inputs for n raw rows: one (n, 1) array per column, float32 or text.

    A missing number becomes NaN and a missing text the empty text; the graph imputes or ignores both.
    """
    return {name: (_to_texts if name in text else _to_numbers)(rows[name]).reshape(-1, 1) for name in names}


def _to_numbers(column: pd.Series) -> np.ndarray:
    return column.to_numpy(dtype=np.float32, na_value=np.nan)


def _to_texts(column: pd.Series) -> np.ndarray:
    return column.astype(object).where(column.notna(), "").astype(str).to_numpy(dtype=object)


class Predictor(PythonModel):
    """Answers raw rows with the probability of the positive class and the class at the model's threshold."""

    def load_context(self, context: PythonModelContext) -> None:
        settings = json.loads(Path(context.artifacts["settings"]).read_text(encoding="utf-8"))
        self.names: list[str] = settings["columns"]
        self.text: list[str] = settings["text"]
        self.threshold: float = settings["threshold"]
        self.session = open_session(context.artifacts["onnx"])
        self.recorder = load_recorder(context.artifacts)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return n rows of `probability` (0 to 1) and `class` (0 or 1), with the index of `model_input`.

        Raises:
            MlflowException: the answer cannot be put on record, and shall not be given then.
        """
        started = time.perf_counter()
        inputs = to_inputs(model_input, self.names, self.text)
        probability = compute_probabilities(self.session, inputs)
        classes = (probability >= self.threshold).astype(int)
        if self.recorder:
            self.recorder.record(model_input, probability.tolist(), classes.tolist(), started)
        return pd.DataFrame({PROBABILITY: probability, CLASS: classes}, index=model_input.index)


mlflow.models.set_model(Predictor())

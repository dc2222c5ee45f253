"""The exported model: raw rows in, probability and class out, computed by ONNX Runtime.

MLflow stores this file as the model's code ("models from code"), so loading a model runs this file and the
ONNX graph, and unpickles nothing. It may import only what `REQUIREMENTS` in export.py names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnxruntime
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

PROBABILITY = "probability"
CLASS = "class"


def as_inputs(rows: pd.DataFrame, names: list[str], text: list[str]) -> dict[str, np.ndarray]:
    """Return the graph's inputs for n raw rows: one (n, 1) array per column, float32 or text.

    A missing number becomes NaN and a missing text the empty text; the graph imputes or ignores both.
    """
    return {name: _text(rows[name]) if name in text else _numbers(rows[name]) for name in names}


def _numbers(column: pd.Series) -> np.ndarray:
    values: np.ndarray = column.to_numpy(dtype=np.float32, na_value=np.nan)
    return values.reshape(-1, 1)


def _text(column: pd.Series) -> np.ndarray:
    values: np.ndarray = column.astype(object).where(column.notna(), "").astype(str).to_numpy(dtype=object)
    return values.reshape(-1, 1)


class Predictor(PythonModel):
    """Answers raw rows with the probability of the positive class and the class at the model's threshold."""

    def load_context(self, context: PythonModelContext) -> None:
        settings = json.loads(Path(context.artifacts["settings"]).read_text(encoding="utf-8"))
        self.names: list[str] = settings["columns"]
        self.text: list[str] = settings["text"]
        self.threshold: float = settings["threshold"]
        self.session = onnxruntime.InferenceSession(context.artifacts["onnx"], providers=["CPUExecutionProvider"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return n rows of `probability` (0 to 1) and `class` (0 or 1), with the index of `model_input`."""
        inputs = as_inputs(model_input, self.names, self.text)
        probability = self.session.run(["probabilities"], inputs)[0][:, 1].astype(float)
        answer = {PROBABILITY: probability, CLASS: (probability >= self.threshold).astype(int)}
        return pd.DataFrame(answer, index=model_input.index)


mlflow.models.set_model(Predictor())

"""Export of a fitted pipeline: conversion to ONNX, comparison with scikit-learn, MLflow model."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import skops.io
from mlflow.models import ModelSignature
from mlflow.models.model import ModelInfo
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from sklearn.pipeline import Pipeline

from stepkit.errors import ExportUnequal
from stepkit.paths import ROOT
from stepkit.settings.model import CALIBRATION, ModelSettings
from stepkit.table.columns import COLUMNS_ARTIFACT, Columns
from stepkit.table.tables import to_model_input
from training.onnx_graph import PROBABILITIES, to_graph
from training.pipeline import round_numbers, select_features
from training.reference_row import build_reference_row, describe_reasons
from training.served_model import CLASS, PROBABILITY, REASONS, RECORD, open_session, to_inputs

LARGEST_DIFFERENCE = 1e-5
"""Allowed difference of probabilities, ONNX against scikit-learn. Float32 sums of 100 trees differ by about 1e-7."""

EXAMPLE_ROWS = 5
FILES = {"onnx": "model.onnx", "settings": "settings.json", "sklearn": "model.skops", "columns": COLUMNS_ARTIFACT}
TRUSTED_TYPES = [
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
]
"""Types that skops must trust to load model.skops: numbers, trees and the two numbers of a sigmoid, no code. The types
of a calibration are plain objects; the map of an isotonic one is rebuilt from its points."""

REQUIREMENTS = ("mlflow", "numpy", "pandas", "onnxruntime")
PREDICTOR = Path(__file__).with_name("served_model.py")
CARRIED = (
    "prediction_log/**/*.py",
    "stepkit/secret_urls.py",
    "stepkit/table/columns.py",
    "stepkit/errors.py",
    "stepkit/model/reasons.py",
)
"""Code packed into the model: of the prediction log, for MLflow's own server, and of the reasons. It is
part of the step's fingerprint (`packs` in pipeline/steps.py), so that a reused model never runs older code."""


def compute_largest_difference(
    model: Pipeline, graph: Path, rows: pd.DataFrame, inputs: list[str], text: list[str]
) -> float:
    """Return the largest absolute difference of probabilities on n rows, graph against scikit-learn."""
    probabilities = open_session(str(graph)).run([PROBABILITIES], to_inputs(rows, inputs, text))[0]
    return float(np.abs(probabilities - model.predict_proba(round_numbers(model, rows))).max())


def verify_equal(difference: float, rows: int) -> None:
    """Raise ExportUnequal if the graph's probabilities differ from scikit-learn's by LARGEST_DIFFERENCE or more."""
    if not difference < LARGEST_DIFFERENCE:
        raise ExportUnequal(
            f"ONNX graph: probabilities differ from scikit-learn by up to {difference:.2e} on {rows:,} validation rows "
            f"(allowed: {LARGEST_DIFFERENCE:.0e}). Try other versions of skl2onnx and onnxruntime, or simpler features."
        )


def make_signature(inputs: list[str], text: list[str]) -> ModelSignature:
    """Return the model's signature: doubles and texts in, all of which may be missing; probability and class out.

    The parameter `reasons` is the number of reasons of each answer.
    """
    columns = [ColSpec(DataType.string if name in text else DataType.double, name) for name in inputs]
    outputs = [ColSpec(DataType.double, PROBABILITY), ColSpec(DataType.long, CLASS)]
    params = ParamSchema([ParamSpec(REASONS, DataType.long, 0)])
    return ModelSignature(inputs=Schema([*columns]), outputs=Schema([*outputs]), params=params)


def list_requirements() -> list[str]:
    """Return the packages that the model needs, pinned to the installed versions."""
    return [f"{name}=={version(name)}" for name in REQUIREMENTS]


def pack_log_code(folder: Path) -> Path:
    """Copy the code of the prediction log into `folder`, with the paths of the repository; return `folder`."""
    for file in chain.from_iterable(map(ROOT.glob, CARRIED)):
        copy = folder / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    return folder


def describe_model(
    settings: ModelSettings, columns: Columns, training: pd.DataFrame, inputs: list[str], text: list[str]
) -> dict[str, Any]:
    """Return the content of settings.json, with the reference row of the training rows."""
    reference = build_reference_row(to_model_input(training, columns), inputs, columns)
    return {
        "columns": inputs,
        "text": text,
        "threshold": settings.threshold,
        CALIBRATION: settings.calibration,
        "protected": columns.protected,
        REASONS: describe_reasons(settings.reasons.permutations, columns, inputs, reference),
    }


def export_model(
    model: Pipeline,
    settings: ModelSettings,
    columns: Columns,
    validation: pd.DataFrame,
    training: pd.DataFrame,
    folder: Path,
    name: str,
) -> tuple[ModelInfo, float]:
    """Convert the model to ONNX, verify the graph on the whole validation set, and log it under `name`.

    `validation` and `training` are tables with the input columns; the reference row of the reasons is made from
    `training`. `folder` is the place of the files before their upload.

    Returns:
        MLflow's info on the logged model, and the largest difference of probabilities.

    Raises:
        ExportUnequal: the probabilities of graph and pipeline differ.
    """
    inputs = select_features(settings.features, columns)
    text = [column for column in inputs if column in columns.text]
    files = {key: folder / file for key, file in FILES.items()}
    files["onnx"].write_bytes(to_graph(model, inputs, text).SerializeToString())
    rows = to_model_input(validation, columns)
    difference = compute_largest_difference(model, files["onnx"], rows, inputs, text)
    verify_equal(difference, len(rows))
    files["settings"].write_text(json.dumps(describe_model(settings, columns, training, inputs, text)))
    files["columns"].write_text(columns.to_yaml(), encoding="utf-8")
    skops.io.dump(model, files["sklearn"])
    files[RECORD] = pack_log_code(folder / RECORD)
    info = mlflow.pyfunc.log_model(
        name=name,
        python_model=str(PREDICTOR),
        artifacts={key: str(path) for key, path in files.items()},
        signature=make_signature(inputs, text),
        input_example=rows[inputs].head(EXAMPLE_ROWS).reset_index(drop=True),
        pip_requirements=list_requirements(),
    )
    return info, difference

"""Prediction log for stock `mlflow models serve` and `mlflow models predict`.

Each exported model contains a copy of this folder, and imports this file if it is served with PREDICTION_LOG_URL set.
So the imports here are limited to the files that training/export.py packs.
"""

from __future__ import annotations

import logging
import math
import os
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE

from prediction_log.errors import LogUnavailable, LogUnfit, RedactUnfit
from prediction_log.settings import SETTINGS_VARIABLE, URL_VARIABLE, LogSettings
from prediction_log.writer import Prediction, PredictionLog
from stepkit.table.columns import format_first_problem

REGISTERED_META_FILE = "registered_model_meta"
"""File in which MLflow stores the registered name and version of a downloaded model."""

COMMIT_TIMEOUT_SECONDS = 60.0
logger = logging.getLogger(__name__)


class Recorder:
    """Writer of one served model's predictions to the log, with a new request id for each request.

    MLflow passes only rows to a model, no headers, so the caller's own id is not available.
    """

    def __init__(self, model: Path) -> None:
        """Open the log in PREDICTION_LOG_URL; a relative SQLite path is relative to the working directory.

        Args:
            model: folder of the loaded model.

        Raises:
            LogUnfit: the URL or the settings in the environment are wrong.
        """
        self.settings = read_environment_settings()
        self.name, self.version = read_name_and_version(model)
        self.log = PredictionLog.open(os.environ[URL_VARIABLE], self.settings, base=Path.cwd(), must_answer=False)

    def record(self, rows: pd.DataFrame, probabilities: list[float], classes: list[int], started: float) -> None:
        """Return once n predictions are committed.

        Args:
            rows: the n raw rows of the request.
            probabilities: n probabilities of the positive class.
            classes: n classes, 0 or 1.
            started: time.perf_counter() at the start of the request.

        Raises:
            MlflowException: with HTTP status 503 if the log cannot be written and `when_unavailable` is "refuse", or
                `redact` is wrong; with 400 if a value cannot be stored.
        """
        latency = (time.perf_counter() - started) * 1000
        try:
            self.settings.verify_redact([*map(str, rows.columns)])
        except RedactUnfit as error:
            message = f"{SETTINGS_VARIABLE}: {error} Correct the setting and restart the server."
            raise MlflowException(message, TEMPORARILY_UNAVAILABLE) from error
        request_id, now = uuid.uuid4().hex, datetime.now(UTC)
        raw: list[Any] = rows.astype(object).mask(rows.isna(), math.nan).to_dict("records")
        predictions = [
            Prediction(request_id, row, now, self.name, self.version, False, *prediction, latency)
            for row, prediction in enumerate(zip(raw, probabilities, classes, strict=True))
        ]
        try:
            self.log.submit(predictions, fresh=True).result(COMMIT_TIMEOUT_SECONDS)
        except (LogUnavailable, LogUnfit, TimeoutError) as error:
            if self.settings.when_unavailable == "refuse":
                raise MlflowException(str(error), TEMPORARILY_UNAVAILABLE) from error
            logger.warning("prediction returned but not logged: %s", error)
        except ValueError as error:
            raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from error


def read_environment_settings() -> LogSettings:
    """Return the settings in PREDICTION_LOG_SETTINGS, a JSON object, or the defaults if the variable is not set.

    Raises:
        LogUnfit: not JSON, an unknown key or a wrong value.
    """
    try:
        return LogSettings.model_validate_json(os.environ.get(SETTINGS_VARIABLE) or "{}")
    except ValueError as error:
        example = '{"redact": ["AGE"], "keep_days": 90}'
        raise LogUnfit(
            f"{SETTINGS_VARIABLE}: {format_first_problem(error)}. Write JSON, for example {example}."
        ) from error


def read_name_and_version(model: Path) -> tuple[str, str]:
    """Return a model's registered name and version, or if it is not registered its own name and MLflow's id."""
    registered = model / REGISTERED_META_FILE
    if registered.is_file():
        meta = yaml.safe_load(registered.read_text(encoding="utf-8"))
        return str(meta["model_name"]), str(meta["model_version"])
    mlmodel = yaml.safe_load((model / "MLmodel").read_text(encoding="utf-8"))
    return str(mlmodel.get("name") or model.name), str(mlmodel.get("model_id") or mlmodel.get("run_id") or "")

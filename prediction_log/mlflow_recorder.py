"""The prediction log under stock `mlflow models serve` and `mlflow models predict`.

An exported model carries this folder among its artifacts, and imports this file when it is served with
PREDICTION_LOG_URL set. So nothing here may need more of the repository than random_forest/export.py packs.
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
"""The file in which MLflow notes the registered model and version that a model was loaded as."""

COMMIT_TIMEOUT_SECONDS = 60.0
logger = logging.getLogger(__name__)


class Recorder:
    """Puts on record what one served model answers, each request under an id of its own.

    MLflow hands a model the rows of a request and nothing of its headers, so the caller's own id cannot be taken.
    """

    def __init__(self, model: Path) -> None:
        """Open the log of the environment; a relative SQLite file is relative to the working directory.

        Args:
            model: the folder of the loaded model.

        Raises:
            LogUnfit: the address or the settings in the environment are not those of a prediction log.
        """
        self.settings = read_environment_settings()
        self.name, self.version = read_name_and_version(model)
        self.log = PredictionLog.open(os.environ[URL_VARIABLE], self.settings, base=Path.cwd(), must_answer=False)

    def record(self, rows: pd.DataFrame, probabilities: list[float], classes: list[int], started: float) -> None:
        """Return once n answers are committed.

        Args:
            rows: the n raw rows as the model got them.
            started: time.perf_counter() at the beginning.

        Raises:
            MlflowException: the log cannot be written and the settings say to refuse; MLflow answers it with 503.
        """
        latency = (time.perf_counter() - started) * 1000
        try:
            self.settings.verify_redact([*map(str, rows.columns)])
        except RedactUnfit as error:
            message = f"{SETTINGS_VARIABLE}: {error} Correct it and start the server again."
            raise MlflowException(message, TEMPORARILY_UNAVAILABLE) from error
        request_id, now = uuid.uuid4().hex, datetime.now(UTC)
        raw: list[Any] = rows.astype(object).mask(rows.isna(), math.nan).to_dict("records")
        predictions = [
            Prediction(request_id, row, now, self.name, self.version, False, *answer, latency)
            for row, answer in enumerate(zip(raw, probabilities, classes, strict=True))
        ]
        try:
            self.log.submit(predictions, fresh=True).result(COMMIT_TIMEOUT_SECONDS)
        except (LogUnavailable, LogUnfit, TimeoutError) as error:
            if self.settings.when_unavailable == "refuse":
                raise MlflowException(str(error), TEMPORARILY_UNAVAILABLE) from error
            logger.warning("answered, but not on record: %s", error)
        except ValueError as error:
            raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from error


def read_environment_settings() -> LogSettings:
    """Return the settings in PREDICTION_LOG_SETTINGS, a JSON object; the defaults where it is not set.

    Raises:
        LogUnfit: it is no JSON, or names a key that there is not.
    """
    try:
        return LogSettings.model_validate_json(os.environ.get(SETTINGS_VARIABLE) or "{}")
    except ValueError as error:
        example = '{"redact": ["AGE"], "keep_days": 90}'
        raise LogUnfit(
            f"{SETTINGS_VARIABLE}: {format_first_problem(error)}. Write JSON, for example {example}"
        ) from error


def read_name_and_version(model: Path) -> tuple[str, str]:
    """Return name and version under which a model was loaded from the registry; else its own name and MLflow's id."""
    registered = model / REGISTERED_META_FILE
    if registered.is_file():
        noted = yaml.safe_load(registered.read_text(encoding="utf-8"))
        return str(noted["model_name"]), str(noted["model_version"])
    described = yaml.safe_load((model / "MLmodel").read_text(encoding="utf-8"))
    return str(described.get("name") or model.name), str(described.get("model_id") or described.get("run_id") or "")

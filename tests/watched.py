"""A champion with its data, and a prediction log of its answers to simulated clients, for tests of monitoring."""

from __future__ import annotations

import itertools
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import pandas as pd

from serve.record.feedback import give_feedback
from serve.record.log import PredictionLog
from serve.record.rows import Prediction
from serve.record.settings import LogSettings
from simulate.drifts import traffic
from stepkit.columns import read_columns
from stepkit.tables import as_model_input
from stepkit.tracking import ROOT
from tests.conftest import Experiment
from tests.pipelines import run_here, small_forest, small_table

START = (datetime.now(UTC) - timedelta(days=20)).replace(hour=0, minute=0, second=0, microsecond=0)
ROWS = 600
TRAINING_ROWS = 3000
COLUMNS = read_columns(ROOT / "data" / "uci.yaml")


@dataclass
class WatchedModel:
    """A registered model, and the log of what it answered; hour by hour a window of `ROWS` rows."""

    experiment: Experiment
    name: str
    log_url: str
    model: mlflow.pyfunc.PyFuncModel

    def serve(self, hour: int, drift: str = "none", rows: int = ROWS, labels: bool = True, **changed: object) -> str:
        """Answer simulated clients at an hour, put that on record with their labels, and return the window's address."""
        table = traffic(rows, 100 + hour, drift).assign(**changed)  # type: ignore[arg-type]  # a value for a column
        return self.record(START + timedelta(hours=hour), table, labels)

    def record(self, start: datetime, table: pd.DataFrame, labels: bool = True) -> str:
        inputs = as_model_input(table, COLUMNS)
        answers = pd.DataFrame(self.model.predict(inputs))
        ids = [uuid.uuid4().hex for _ in range(len(table))]
        times = (start + timedelta(seconds=number) for number in itertools.count())
        predictions = [
            Prediction(one, 0, time, self.name, "1", False, {str(key): value for key, value in row.items()}, score, int(score >= 0.5), 1.0)
            for one, time, row, score in zip(ids, times, inputs.to_dict("records"), answers["probability"], strict=False)
        ]  # fmt: skip
        log = PredictionLog.open(self.log_url, LogSettings())
        log.submit(predictions).result(60)
        log.close(30)
        if labels:
            give_feedback(
                self.log_url,
                [(one, 0, int(label)) for one, label in zip(ids, table[COLUMNS.source_target], strict=True)],
            )
        return window(start, start + timedelta(hours=1))

    @property
    def address(self) -> str:
        return f"models:/{self.name}@champion"


def window(start: datetime, end: datetime) -> str:
    return f"log:?from={start.isoformat()}&to={end.isoformat()}"


def watched_model(experiment: Experiment, folder: Path) -> WatchedModel:
    """Run a small pipeline and begin a log beside it."""
    table = small_table(folder, rows=TRAINING_ROWS)
    run_here(experiment, f"data.file_url={table}", "data.sha256=[]", *small_forest())
    model = mlflow.pyfunc.load_model(f"models:/{experiment.id_name}@champion")
    return WatchedModel(experiment, experiment.id_name, f"sqlite:///{folder / 'predictions.db'}", model)

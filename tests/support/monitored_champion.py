"""A champion with its training data and a prediction log for simulated clients, for tests of monitoring."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.pyfunc import PyFuncModel

from prediction_log.labels import write_labels
from prediction_log.rows import Prediction
from prediction_log.settings import LogSettings
from prediction_log.writer import PredictionLog
from simulate.drifts import simulate_traffic
from stepkit.paths import ROOT
from stepkit.table.columns import read_columns
from stepkit.table.tables import to_model_input
from tests.conftest import Experiment
from tests.support.pipelines import make_small_forest, run_here, write_small_table

START = (datetime.now(UTC) - timedelta(days=20)).replace(hour=0, minute=0, second=0, microsecond=0)
ROWS = 600
TRAINING_ROWS = 3000
COLUMNS = read_columns(ROOT / "data" / "uci.yaml")


@dataclass
class WatchedModel:
    """Registered model and its prediction log, with a window of `ROWS` rows for each hour."""

    experiment: Experiment
    name: str
    log_url: str
    model: PyFuncModel

    def serve(self, hour: int, drift: str = "none", rows: int = ROWS, labels: bool = True, **changed: object) -> str:
        """Score simulated clients at an hour, log predictions and labels, and return the window's `current` setting."""
        table = simulate_traffic(rows, 100 + hour, drift).assign(**changed)  # type: ignore[arg-type]  # a value for a column
        return self.record(START + timedelta(hours=hour), table, labels)

    def record(self, start: datetime, table: pd.DataFrame, labels: bool = True) -> str:
        inputs = to_model_input(table, COLUMNS)
        answers = pd.DataFrame(self.model.predict(inputs))
        ids = [uuid.uuid4().hex for _ in range(len(table))]
        log = PredictionLog.open(self.log_url, LogSettings())
        log.submit(list(self._make_predictions(start, ids, inputs, answers["probability"].tolist()))).result(60)
        log.close(30)
        if labels:
            labelled_ids = zip(ids, table[COLUMNS.source_target].tolist(), strict=True)
            write_labels(self.log_url, [(request_id, 0, int(label)) for request_id, label in labelled_ids])
        return format_window(start, start + timedelta(hours=1))

    def _make_predictions(
        self, start: datetime, ids: list[str], inputs: pd.DataFrame, scores: list[float]
    ) -> Iterator[Prediction]:
        """Return one request with one row for each second."""
        for number, (request_id, row, score) in enumerate(zip(ids, inputs.to_dict("records"), scores, strict=True)):
            features = {str(name): value for name, value in row.items()}
            time = start + timedelta(seconds=number)
            yield Prediction(request_id, 0, time, self.name, "1", False, features, score, int(score >= 0.5), 1.0)

    @property
    def address(self) -> str:
        return f"models:/{self.name}@champion"


def format_window(start: datetime, end: datetime) -> str:
    return f"log:?from={start.isoformat()}&to={end.isoformat()}"


def create_watched_model(experiment: Experiment, folder: Path) -> WatchedModel:
    """Run a small pipeline and create a prediction log next to it."""
    table = write_small_table(folder, rows=TRAINING_ROWS)
    run_here(experiment, f"data.file_url={table}", "data.sha256=[]", *make_small_forest())
    model = mlflow.pyfunc.load_model(f"models:/{experiment.id_name}@champion")
    return WatchedModel(experiment, experiment.id_name, f"sqlite:///{folder / 'predictions.db'}", model)

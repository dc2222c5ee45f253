"""Sides of a comparison: the reference and the current window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow import MlflowClient

from drift.compare.groups import Approvals
from drift.compare.performance import Floats, ScoredRows
from drift.compare.sources import WatchedVersion, fetch_table, get_watched_version, verify_version
from drift.errors import ReferenceMissing
from drift.history import NO_MODEL
from drift.settings import get_log_url, get_reference_model
from prediction_log.read import count_rows, read_log, select_features
from prediction_log.window import LOG, parse_window
from stepkit.errors import BadParameter
from stepkit.secret_urls import to_recorded_url
from stepkit.settings.drift import Monitoring
from stepkit.settings.model import CALIBRATED
from stepkit.table.columns import Columns
from stepkit.table.labels import to_known_labels
from stepkit.table.tables import add_column, to_model_input

Score = Callable[[pd.DataFrame], pd.DataFrame | None]
"""Function from n rows to n `probability` and `class`; None without a model, or if an input column is missing."""

MAX_ROWS_NAMED = 5
"""Maximum number of unreadable rows that are named per column, counted from 0."""

MAX_CLOCK_SKEW = timedelta(seconds=60)
"""Tolerated difference between the clocks of two machines."""


@dataclass(frozen=True)
class Reference:
    """Reference: n rows of the columns, their labels, and scored rows that the model was not trained on.

    `approvals` are the answers to the scored rows.
    """

    url: str
    rows: pd.DataFrame
    label: Floats | None = None
    scored: ScoredRows | None = None
    approvals: Approvals | None = None


@dataclass(frozen=True)
class Current:
    """Current window of n rows. `probability`, `label` and `predicted` have n values, NaN where unknown.

    `unreadable` names the numeric columns that contain text or infinite values, with the first such rows.
    """

    url: str
    rows: pd.DataFrame
    start: datetime | None
    end: datetime | None
    probability: Floats | None = None
    label: Floats | None = None
    versions: list[str] = field(default_factory=list)
    future_rows: int = 0
    unreadable: list[dict[str, Any]] = field(default_factory=list)
    predicted: Floats | None = None

    @property
    def labelled(self) -> int:
        """Number of labelled rows."""
        return 0 if self.label is None else int(np.isfinite(self.label).sum())


@dataclass(frozen=True)
class Sides:
    """Reference, current window and monitored model version (None: files are compared without a model).

    `inputs` are the input columns of the version; None: all columns of its data set.
    """

    reference: Reference
    current: Current
    watched_version: WatchedVersion | None
    inputs: list[str] | None = None

    @property
    def columns(self) -> Columns | None:
        """Columns of the model."""
        return self.watched_version.columns if self.watched_version else None

    @property
    def model_name(self) -> str:
        """Name of the model, or NO_MODEL."""
        return self.watched_version.model.name if self.watched_version else NO_MODEL

    @property
    def version(self) -> str:
        """Version of the model, or ""."""
        return self.watched_version.model.version if self.watched_version else ""


def read_sides(client: MlflowClient, settings: Monitoring, folder: Path) -> Sides:
    """Read the reference and the current window, and score their rows where necessary.

    Args:
        client: client of the tracking server.
        settings: `reference`, `current` and the other settings of monitoring.
        folder: folder for downloads.

    Raises:
        ReferenceMissing: the reference or a table does not exist.
        LogUnfit, LogUnavailable: the prediction log cannot be read.
        BadParameter: `reference` or `current` is invalid.
    """
    uri = get_reference_model(settings)
    model = get_watched_version(client, uri) if uri else None
    score, inputs = load_scorer(model, folder / "model")
    reference = _read_reference(settings, model, score, folder)
    if settings.current.startswith(LOG):
        current = _read_window(client, settings, model)
    else:
        rows, label = _split_label(_read_table(settings.current, folder / "current", model), model)
        versions = [model.model.version] if model else []
        current = Current(to_recorded_url(settings.current), rows, None, None, None, label, versions)
    rows, unreadable = convert_to_numbers(current.rows, _list_numeric_columns(reference, model))
    current = replace(current, rows=rows, unreadable=unreadable)
    if current.probability is None and (scores := score(rows)) is not None:
        probability, predicted = (scores[name].to_numpy(float) for name in ("probability", "class"))
        current = replace(current, probability=probability, predicted=predicted)
    return Sides(reference, current, model, inputs)


def load_scorer(model: WatchedVersion | None, folder: Path) -> tuple[Score, list[str] | None]:
    """Return the function that scores rows, and the model's input columns."""
    if model is None:
        return lambda _rows: None, None
    folder.mkdir(parents=True, exist_ok=True)
    loaded, columns = mlflow.pyfunc.load_model(model.model.uri, dst_path=str(folder)), model.columns
    inputs = list(map(str, loaded.metadata.get_input_schema().input_names()))
    used = columns.model_copy(update={"columns": {name: columns.columns[name] for name in inputs}})

    def score(rows: pd.DataFrame) -> pd.DataFrame | None:
        if not set(inputs) <= set(rows):
            return None
        return pd.DataFrame(loaded.predict(to_model_input(rows, used)))

    return score, inputs


def _list_numeric_columns(reference: Reference, model: WatchedVersion | None) -> list[str]:
    """Return the numeric columns that the model's data set declares, or that the reference has."""
    if model:
        return [name for name in model.columns.names if name not in model.columns.text]
    return [str(name) for name, values in reference.rows.items() if pd.api.types.is_numeric_dtype(values)]


def _read_reference(settings: Monitoring, model: WatchedVersion | None, score: Score, folder: Path) -> Reference:
    is_training_data = settings.reference in ("", get_reference_model(settings))
    if is_training_data and model is None:
        raise ReferenceMissing("reference: empty, and training data needs a model. Set a file: -P reference=FILE.")
    url = model.train_url if is_training_data and model else settings.reference
    table = _read_table(url, folder / "reference", model)
    rows, label = _split_label(table, model)
    held_out = _read_table(model.test_url, folder / "test", model) if is_training_data and model else table
    held_out_rows, held_out_label = _split_label(held_out, model)
    scores = score(held_out_rows)
    if scores is None:
        return Reference(to_recorded_url(url), rows, label)
    unknown = np.full(len(held_out), np.nan)
    is_calibrated = model is not None and model.model.calibration in CALIBRATED
    probability, predicted = (scores[name].to_numpy(float) for name in ("probability", "class"))
    scored = ScoredRows(probability, unknown if held_out_label is None else held_out_label, is_calibrated)
    approvals = make_approvals(predicted, held_out_rows, model.columns if model else None)
    return Reference(to_recorded_url(url), rows, label, scored, approvals)


def make_approvals(predicted: Floats, rows: pd.DataFrame, columns: Columns | None) -> Approvals:
    """Return the answers to n rows, with the protected columns among the rows."""
    protected = [name for name in columns.protected if name in rows] if columns else []
    return Approvals(predicted == 0, rows[protected].reset_index(drop=True))


def _read_table(url: str, folder: Path, model: WatchedVersion | None) -> pd.DataFrame:
    return fetch_table(url, folder, model.columns.text if model else [])


def _split_label(table: pd.DataFrame, model: WatchedVersion | None) -> tuple[pd.DataFrame, Floats | None]:
    """Return the input columns and the label (0, 1), which has the target's name before or after preprocess."""
    if model is None:
        return table, None
    columns = model.columns
    target = next((name for name in (columns.target, columns.source_target) if name in table), None)
    others = {target, columns.id_column, columns.time_column} - set(columns.names)
    rows = table.drop(columns=[name for name in others if name and name in table])
    return rows, to_known_labels(table[target], columns) if target else None


def convert_to_numbers(table: pd.DataFrame, numeric: list[str]) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Return n rows with text in `numeric` columns replaced by missing values, and a list of the unreadable cells.

    One text must not stop the monitoring of the other columns. Infinite values stay; they are out of every range.
    """
    unreadable: list[dict[str, Any]] = []
    for name in [name for name in numeric if name in table]:
        values = table[name]
        if not pd.api.types.is_numeric_dtype(values):
            numbers = pd.to_numeric(values.astype(object), errors="coerce").astype(float)
            unreadable += _describe_unreadable(name, "text", (numbers.isna() & values.notna()).to_numpy())
            table, values = add_column(table, name, numbers), numbers
        unreadable += _describe_unreadable(name, "infinite", np.isinf(values.to_numpy(dtype=float, na_value=np.nan)))
    return table, unreadable


def _describe_unreadable(column: str, kind: str, is_unreadable: npt.NDArray[np.bool_]) -> list[dict[str, Any]]:
    rows = np.flatnonzero(is_unreadable).tolist()
    return [{"column": column, "kind": kind, "rows": len(rows), "first": rows[:MAX_ROWS_NAMED]}] if rows else []


def _read_window(client: MlflowClient, settings: Monitoring, model: WatchedVersion | None) -> Current:
    window, now = parse_window(settings.current), datetime.now(UTC)
    if window.start and window.start > now:
        raise BadParameter(f"'{settings.current}': from ({window.start}) is in the future. Name a time before now.")
    version = window.version or (model.model.version if model else None)
    url, latest = get_log_url(settings), now + MAX_CLOCK_SKEW
    only, name = None if version == "any" else version, model.model.name if model else None
    end = min(window.end or latest, latest)
    rows = read_log(url, window.start, end, window.rows, only, labels=True, model_name=name)
    future_rows = count_rows(url, latest, window.end, only, name)
    if rows.empty and not future_rows and window.version not in (None, "any"):
        verify_version(client, str(window.version), model)
    times = rows["time"]
    first = times.min().to_pydatetime() if len(rows) else None
    # The end of a span is excluded, so the window must end after its last row.
    last = times.max().to_pydatetime() + timedelta(microseconds=1) if len(rows) else None
    return Current(
        settings.current,
        select_features(rows).reset_index(drop=True),
        window.start or first,
        window.end or last,
        rows["probability"].to_numpy(dtype=float),
        rows["label"].to_numpy(dtype=float),
        sorted(map(str, rows["model_version"].unique())),
        future_rows,
        predicted=rows["predicted"].to_numpy(dtype=float),
    )

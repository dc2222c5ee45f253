"""The two sides of a comparison, read from their addresses: the reference, and the current window."""

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

from drift.compare.performance import Floats, ScoredRows
from drift.compare.sources import LOG, WatchedVersion, fetch_table, parse_window, verify_version, watched
from drift.errors import ReferenceMissing
from drift.history import NO_MODEL
from drift.settings import get_log_url, get_reference_model
from prediction_log.read import read_log, select_features
from stepkit.secret_urls import to_recorded_url
from stepkit.settings.drift import Monitoring
from stepkit.table.columns import Columns
from stepkit.table.labels import to_known_labels
from stepkit.table.tables import add_column, to_model_input

Score = Callable[[pd.DataFrame], Floats | None]
"""From n rows to the model's probabilities; None without a model, or without a column that it takes."""

MAX_ROWS_NAMED = 5
"""So many rows are named, counted from 0, where a column holds values that are not finite numbers."""

MAX_CLOCK_SKEW = timedelta(seconds=60)
"""Clocks of two machines may differ by so much without anybody calling it a fault."""


@dataclass(frozen=True)
class Reference:
    """What is compared with. `rows` are n rows of the input columns; `label` their true labels, where known."""

    address: str
    rows: pd.DataFrame
    label: Floats | None = None
    scored: ScoredRows | None = None


@dataclass(frozen=True)
class Current:
    """The window. `probability` and `label` belong to its n rows; NaN where unknown.

    `unreadable` names the columns of numbers that hold texts or infinite values, and a few of these rows.
    """

    address: str
    rows: pd.DataFrame
    start: datetime | None
    end: datetime | None
    probability: Floats | None = None
    label: Floats | None = None
    versions: list[str] = field(default_factory=list)
    future_rows: int = 0
    unreadable: list[dict[str, Any]] = field(default_factory=list)

    @property
    def labelled(self) -> int:
        return 0 if self.label is None else int(np.isfinite(self.label).sum())


@dataclass(frozen=True)
class Sides:
    """Both sides, and the model version that is watched (None: files are compared without a model)."""

    reference: Reference
    current: Current
    watched: WatchedVersion | None

    @property
    def columns(self) -> Columns | None:
        return self.watched.columns if self.watched else None

    @property
    def model_name(self) -> str:
        return self.watched.model.name if self.watched else NO_MODEL

    @property
    def version(self) -> str:
        return self.watched.model.version if self.watched else ""


def read_sides(client: MlflowClient, settings: Monitoring, folder: Path) -> Sides:
    """Read both sides.

    Raises:
        ReferenceMissing: there is no reference, or no table at an address.
        LogUnfit, LogUnavailable: the prediction log cannot be read.
        BadParameter: an address that means nothing.
    """
    address = get_reference_model(settings)
    model = watched(client, address) if address else None
    score = _load_scorer(model, folder / "model")
    reference = _read_reference(settings, model, score, folder)
    if settings.current.startswith(LOG):
        current = _read_window(client, settings, model)
    else:
        rows, label = _split_label(_read_table(settings.current, folder / "current", model), model)
        versions = [model.model.version] if model else []
        current = Current(to_recorded_url(settings.current), rows, None, None, None, label, versions)
    rows, unreadable = convert_to_numbers(current.rows, _list_numeric_columns(reference, model))
    probability = score(rows) if current.probability is None else current.probability
    return Sides(reference, replace(current, rows=rows, unreadable=unreadable, probability=probability), model)


def _load_scorer(model: WatchedVersion | None, folder: Path) -> Score:
    if model is None:
        return lambda _rows: None
    folder.mkdir(parents=True, exist_ok=True)
    loaded, columns = mlflow.pyfunc.load_model(model.model.uri, dst_path=str(folder)), model.columns

    def score(rows: pd.DataFrame) -> Floats | None:
        if not set(columns.names) <= set(rows):
            return None
        answered = pd.DataFrame(loaded.predict(to_model_input(rows, columns)))
        return np.asarray(answered["probability"], dtype=float)

    return score


def _list_numeric_columns(reference: Reference, model: WatchedVersion | None) -> list[str]:
    """The columns of numbers: as the model's data set declares them, else as the reference holds them."""
    if model:
        return [name for name in model.columns.names if name not in model.columns.text]
    return [str(name) for name, values in reference.rows.items() if pd.api.types.is_numeric_dtype(values)]


def _read_reference(settings: Monitoring, model: WatchedVersion | None, score: Score, folder: Path) -> Reference:
    own = settings.reference in ("", get_reference_model(settings))
    if own and model is None:
        raise ReferenceMissing(
            "without a model there is no training data to compare with: name a file, -P reference=FILE"
        )
    address = model.train_address if own and model else settings.reference
    table = _read_table(address, folder / "reference", model)
    rows, label = _split_label(table, model)
    held_out = _read_table(model.test_address, folder / "test", model) if own and model else table
    held_out_rows, held_out_label = _split_label(held_out, model)
    probability = score(held_out_rows)
    if probability is None:
        return Reference(to_recorded_url(address), rows, label)
    unknown = np.full(len(held_out), np.nan)
    scored = ScoredRows(probability, unknown if held_out_label is None else held_out_label)
    return Reference(to_recorded_url(address), rows, label, scored)


def _read_table(address: str, folder: Path, model: WatchedVersion | None) -> pd.DataFrame:
    return fetch_table(address, folder, model.columns.text if model else [])


def _split_label(table: pd.DataFrame, model: WatchedVersion | None) -> tuple[pd.DataFrame, Floats | None]:
    """The input columns, and the label as 0 and 1 under the target's name before or after preprocess."""
    if model is None:
        return table, None
    columns = model.columns
    target = next((name for name in (columns.target, columns.source_target) if name in table), None)
    rows = table.drop(columns=[name for name in (target, columns.id_column) if name and name in table])
    return rows, to_known_labels(table[target], columns) if target else None


def convert_to_numbers(table: pd.DataFrame, numeric: list[str]) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Return n rows whose texts in `numeric` columns became missing values, and the cells that are not finite numbers.

    One text must not stop the monitoring of the other columns; infinite values stay, they are out of every range.
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


def _describe_unreadable(column: str, kind: str, broken: npt.NDArray[np.bool_]) -> list[dict[str, Any]]:
    places = np.flatnonzero(broken).tolist()
    return [{"column": column, "kind": kind, "rows": len(places), "first": places[:MAX_ROWS_NAMED]}] if places else []


def _read_window(client: MlflowClient, settings: Monitoring, model: WatchedVersion | None) -> Current:
    window = parse_window(settings.current)
    version = window.version or (model.model.version if model else None)
    table = read_log(
        get_log_url(settings),
        window.start,
        window.end,
        window.rows,
        None if version == "any" else version,
        labels=True,
        model_name=model.model.name if model else None,
    )
    if table.empty and window.version not in (None, "any"):
        verify_version(client, str(window.version), model)
    ahead = table["time"] > datetime.now(UTC) + MAX_CLOCK_SKEW
    known = table[~ahead]
    times = known["time"]
    first = times.min().to_pydatetime() if len(known) else None
    # the window ends behind its last row, so that the same rows can be asked for as a span of time
    last = times.max().to_pydatetime() + timedelta(microseconds=1) if len(known) else None
    return Current(
        settings.current,
        select_features(known).reset_index(drop=True),
        window.start or first,
        window.end or last,
        known["probability"].to_numpy(dtype=float),
        known["label"].to_numpy(dtype=float),
        sorted(map(str, known["model_version"].unique())),
        int(ahead.sum()),
    )

"""The two sides of a comparison, read from their addresses: the reference, and the current window."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow import MlflowClient
from mlflow.pyfunc import PyFuncModel

from drift.compare.sources import LogWindow, Watched, expect_version, is_log, load_model, log_window, table_at, watched
from drift.errors import ReferenceMissing
from drift.settings import log_address, reference_model
from prediction_log.read import features_in, read_log
from stepkit.secret_urls import recorded
from stepkit.settings.drift import Monitoring
from stepkit.table.columns import Columns
from stepkit.table.labels import known_labels
from stepkit.table.tables import as_model_input, with_column

Floats = npt.NDArray[np.float64]

FIRST_ROWS = 5
"""So many rows are named, counted from 0, where a column holds values that are not finite numbers."""

SKEW = timedelta(seconds=60)
"""Clocks of two machines may differ by so much without anybody calling it a fault."""


@dataclass(frozen=True)
class Scored:
    """n rows that the model has not been trained on: its probability, and the true label."""

    probability: Floats
    label: Floats


@dataclass(frozen=True)
class Reference:
    """What is compared with. `rows` are n rows of the input columns; `label` their true labels, where known."""

    address: str
    rows: pd.DataFrame
    label: Floats | None = None
    scored: Scored | None = None


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
    watched: Watched | None

    @property
    def columns(self) -> Columns | None:
        return self.watched.columns if self.watched else None


def read_sides(client: MlflowClient, settings: Monitoring, folder: Path) -> Sides:
    """Read both sides.

    Raises:
        ReferenceMissing: there is no reference, or no table at an address.
        LogUnfit, LogUnavailable: the prediction log cannot be read.
        BadParameter: an address that means nothing.
    """
    address = reference_model(settings)
    model = watched(client, address) if address else None
    loaded = load_model(model.model, folder / "model") if model else None
    reference = _reference(settings, model, loaded, folder)
    return Sides(reference, _current(client, settings, model, loaded, folder, _numeric(reference, model)), model)


def _numeric(reference: Reference, model: Watched | None) -> list[str]:
    """The columns of numbers: as the model's data set declares them, else as the reference holds them."""
    if model:
        return [name for name in model.columns.names if name not in model.columns.text]
    return [str(name) for name, values in reference.rows.items() if pd.api.types.is_numeric_dtype(values)]


def _reference(settings: Monitoring, model: Watched | None, loaded: PyFuncModel | None, folder: Path) -> Reference:
    own = settings.reference in ("", reference_model(settings))
    if own and model is None:
        raise ReferenceMissing(
            "without a model there is no training data to compare with: name a file, -P reference=FILE"
        )
    text = model.columns.text if model else []
    address = model.train_address if own and model else settings.reference
    table = table_at(address, folder / "reference", text)
    if model is None or loaded is None:
        return Reference(recorded(address), table)
    rows, label = _split(table, model.columns)
    held_out = table_at(model.test_address, folder / "test", text) if own else table
    return Reference(recorded(address), rows, label, _scored(loaded, held_out, model.columns))


def _scored(loaded: PyFuncModel, table: pd.DataFrame, columns: Columns) -> Scored | None:
    rows, label = _split(table, columns)
    missing = [name for name in columns.names if name not in rows]
    if missing:
        return None
    if label is None:
        label = np.full(len(rows), np.nan)
    return Scored(_probability(loaded, rows, columns), label)


def _probability(loaded: PyFuncModel, rows: pd.DataFrame, columns: Columns) -> Floats:
    answered = pd.DataFrame(loaded.predict(as_model_input(rows, columns)))
    return np.asarray(answered["probability"], dtype=float)


def _split(table: pd.DataFrame, columns: Columns) -> tuple[pd.DataFrame, Floats | None]:
    """The input columns, and the label as 0 and 1 under the target's name before or after preprocess."""
    for name in (columns.target, columns.source_target):
        if name in table:
            return table.drop(columns=[name, *_id(table, columns)]), known_labels(table[name], columns)
    return table.drop(columns=_id(table, columns)), None


def _id(table: pd.DataFrame, columns: Columns) -> list[str]:
    return [columns.id_column] if columns.id_column and columns.id_column in table else []


def _current(
    client: MlflowClient,
    settings: Monitoring,
    model: Watched | None,
    loaded: PyFuncModel | None,
    folder: Path,
    numeric: list[str],
) -> Current:
    if is_log(settings.current):
        current = _from_log(client, settings, log_window(settings.current), model)
        rows, unreadable = with_numbers(current.rows, numeric)
        return replace(current, rows=rows, unreadable=unreadable)
    table = table_at(settings.current, folder / "current", model.columns.text if model else [])
    table, unreadable = with_numbers(table, numeric)
    if model is None or loaded is None:
        return Current(recorded(settings.current), table, None, None, unreadable=unreadable)
    rows, label = _split(table, model.columns)
    whole = set(model.columns.names) <= set(rows.columns)
    probability = _probability(loaded, rows, model.columns) if whole else None
    versions = [model.model.version]
    return Current(recorded(settings.current), rows, None, None, probability, label, versions, unreadable=unreadable)


def with_numbers(table: pd.DataFrame, numeric: list[str]) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Return n rows whose texts in `numeric` columns became missing values, and the cells that are not finite numbers.

    One text must not stop the monitoring of the other columns; infinite values stay, they are out of every range.
    """
    unreadable: list[dict[str, Any]] = []
    for name in [name for name in numeric if name in table]:
        values = table[name]
        if not pd.api.types.is_numeric_dtype(values):
            numbers = pd.to_numeric(values.astype(object), errors="coerce").astype(float)
            unreadable += _unreadable(name, "text", (numbers.isna() & values.notna()).to_numpy())
            table, values = with_column(table, name, numbers), numbers
        unreadable += _unreadable(name, "infinite", np.isinf(values.to_numpy(dtype=float, na_value=np.nan)))
    return table, unreadable


def _unreadable(column: str, kind: str, broken: npt.NDArray[np.bool_]) -> list[dict[str, Any]]:
    places = np.flatnonzero(broken).tolist()
    return [{"column": column, "kind": kind, "rows": len(places), "first": places[:FIRST_ROWS]}] if places else []


def _from_log(client: MlflowClient, settings: Monitoring, window: LogWindow, model: Watched | None) -> Current:
    version = window.version or (model.model.version if model else None)
    table = read_log(
        log_address(settings),
        window.start,
        window.end,
        window.rows,
        None if version == "any" else version,
        labels=True,
        model_name=model.model.name if model else None,
    )
    if table.empty and window.version not in (None, "any"):
        expect_version(client, str(window.version), model)
    latest = datetime.now(UTC) + SKEW
    ahead = table["time"] > latest
    current = _as_current(settings.current, table[~ahead], window)
    return replace(current, future_rows=int(ahead.sum()))


def _as_current(address: str, table: pd.DataFrame, window: LogWindow) -> Current:
    times = table["time"]
    start = window.start or (times.min().to_pydatetime() if len(table) else None)
    # the window ends behind its last row, so that the same rows can be asked for as a span of time
    last = times.max().to_pydatetime() + timedelta(microseconds=1) if len(table) else None
    end = window.end or last
    return Current(
        address,
        features_in(table).reset_index(drop=True),
        start,
        end,
        table["probability"].to_numpy(dtype=float),
        table["label"].to_numpy(dtype=float),
        sorted(map(str, table["model_version"].unique())),
    )

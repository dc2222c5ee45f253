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

from drift.compare.performance import Floats, Scored
from drift.compare.sources import LOG, Watched, expect_version, log_window, table_at, watched
from drift.errors import ReferenceMissing
from drift.history import NO_MODEL
from drift.settings import log_address, reference_model
from prediction_log.read import features_in, read_log
from stepkit.secret_urls import recorded
from stepkit.settings.drift import Monitoring
from stepkit.table.columns import Columns
from stepkit.table.labels import known_labels
from stepkit.table.tables import as_model_input, with_column

Score = Callable[[pd.DataFrame], Floats | None]
"""From n rows to the model's probabilities; None without a model, or without a column that it takes."""

FIRST_ROWS = 5
"""So many rows are named, counted from 0, where a column holds values that are not finite numbers."""

SKEW = timedelta(seconds=60)
"""Clocks of two machines may differ by so much without anybody calling it a fault."""


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
    address = reference_model(settings)
    model = watched(client, address) if address else None
    score = _scorer(model, folder / "model")
    reference = _reference(settings, model, score, folder)
    if settings.current.startswith(LOG):
        current = _from_log(client, settings, model)
    else:
        rows, label = _split(_table(settings.current, folder / "current", model), model)
        versions = [model.model.version] if model else []
        current = Current(recorded(settings.current), rows, None, None, None, label, versions)
    rows, unreadable = with_numbers(current.rows, _numeric(reference, model))
    probability = score(rows) if current.probability is None else current.probability
    return Sides(reference, replace(current, rows=rows, unreadable=unreadable, probability=probability), model)


def _scorer(model: Watched | None, folder: Path) -> Score:
    if model is None:
        return lambda _rows: None
    folder.mkdir(parents=True, exist_ok=True)
    loaded, columns = mlflow.pyfunc.load_model(model.model.uri, dst_path=str(folder)), model.columns

    def score(rows: pd.DataFrame) -> Floats | None:
        if not set(columns.names) <= set(rows):
            return None
        answered = pd.DataFrame(loaded.predict(as_model_input(rows, columns)))
        return np.asarray(answered["probability"], dtype=float)

    return score


def _numeric(reference: Reference, model: Watched | None) -> list[str]:
    """The columns of numbers: as the model's data set declares them, else as the reference holds them."""
    if model:
        return [name for name in model.columns.names if name not in model.columns.text]
    return [str(name) for name, values in reference.rows.items() if pd.api.types.is_numeric_dtype(values)]


def _reference(settings: Monitoring, model: Watched | None, score: Score, folder: Path) -> Reference:
    own = settings.reference in ("", reference_model(settings))
    if own and model is None:
        raise ReferenceMissing(
            "without a model there is no training data to compare with: name a file, -P reference=FILE"
        )
    address = model.train_address if own and model else settings.reference
    table = _table(address, folder / "reference", model)
    rows, label = _split(table, model)
    held_out = _table(model.test_address, folder / "test", model) if own and model else table
    held_out_rows, held_out_label = _split(held_out, model)
    probability = score(held_out_rows)
    if probability is None:
        return Reference(recorded(address), rows, label)
    unknown = np.full(len(held_out), np.nan)
    scored = Scored(probability, unknown if held_out_label is None else held_out_label)
    return Reference(recorded(address), rows, label, scored)


def _table(address: str, folder: Path, model: Watched | None) -> pd.DataFrame:
    return table_at(address, folder, model.columns.text if model else [])


def _split(table: pd.DataFrame, model: Watched | None) -> tuple[pd.DataFrame, Floats | None]:
    """The input columns, and the label as 0 and 1 under the target's name before or after preprocess."""
    if model is None:
        return table, None
    columns = model.columns
    target = next((name for name in (columns.target, columns.source_target) if name in table), None)
    rows = table.drop(columns=[name for name in (target, columns.id_column) if name and name in table])
    return rows, known_labels(table[target], columns) if target else None


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


def _from_log(client: MlflowClient, settings: Monitoring, model: Watched | None) -> Current:
    window = log_window(settings.current)
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
    ahead = table["time"] > datetime.now(UTC) + SKEW
    known = table[~ahead]
    times = known["time"]
    first = times.min().to_pydatetime() if len(known) else None
    # the window ends behind its last row, so that the same rows can be asked for as a span of time
    last = times.max().to_pydatetime() + timedelta(microseconds=1) if len(known) else None
    return Current(
        settings.current,
        features_in(known).reset_index(drop=True),
        window.start or first,
        window.end or last,
        known["probability"].to_numpy(dtype=float),
        known["label"].to_numpy(dtype=float),
        sorted(map(str, known["model_version"].unique())),
        int(ahead.sum()),
    )

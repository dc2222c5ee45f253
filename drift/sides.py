"""The two sides of a comparison, read from their addresses: the reference, and the current window."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow import MlflowClient
from mlflow.pyfunc import PyFuncModel

from drift.addresses import LogWindow, Watched, is_log, load_model, log_window, table_at, watched
from drift.errors import ReferenceMissing
from drift.settings import log_address
from serve.record.read import AFTER, BEFORE, read_log
from stepkit.addresses import recorded
from stepkit.columns import Columns
from stepkit.labels import known_labels
from stepkit.monitoring import Monitoring
from stepkit.tables import as_model_input

Floats = npt.NDArray[np.float64]

SKEW = timedelta(seconds=60)
"""Clocks of two machines may differ by so much without anybody calling it a fault."""

OF_THE_LOG = {*BEFORE, *AFTER, "label"}


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
    """The window. `probability` and `label` belong to its n rows; NaN where unknown."""

    address: str
    rows: pd.DataFrame
    start: datetime | None
    end: datetime | None
    probability: Floats | None = None
    label: Floats | None = None
    versions: list[str] = field(default_factory=list)
    future_rows: int = 0

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
    current = _current(settings, model, loaded, folder)
    return Sides(_reference(settings, model, loaded, folder), current, model)


def reference_model(settings: Monitoring) -> str:
    """The address of the model that is watched; "" if files are compared without one."""
    if settings.reference.startswith("models:/"):
        return settings.reference
    # null in config.yaml is the registered model; only who types model_name=none has none
    return f"models:/{settings.model_name}@champion" if settings.model_name else ""


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


def _current(settings: Monitoring, model: Watched | None, loaded: PyFuncModel | None, folder: Path) -> Current:
    if is_log(settings.current):
        return _from_log(settings, log_window(settings.current), model)
    table = table_at(settings.current, folder / "current", model.columns.text if model else [])
    if model is None or loaded is None:
        return Current(recorded(settings.current), table, None, None)
    rows, label = _split(table, model.columns)
    whole = set(model.columns.names) <= set(rows.columns)
    probability = _probability(loaded, rows, model.columns) if whole else None
    return Current(recorded(settings.current), rows, None, None, probability, label, [model.model.version])


def _from_log(settings: Monitoring, window: LogWindow, model: Watched | None) -> Current:
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
    rows = table.drop(columns=[name for name in OF_THE_LOG if name in table])
    return Current(
        address,
        rows.rename(columns=lambda name: name.removeprefix(".")).reset_index(drop=True),
        start,
        end,
        table["probability"].to_numpy(dtype=float),
        table["label"].to_numpy(dtype=float),
        sorted(map(str, table["model_version"].unique())),
    )

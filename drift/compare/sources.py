"""Addresses -> tables: the training data behind a model version, a file anywhere, the artifact of a run."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl

import aiohttp
import fsspec
import mlflow
import pandas as pd
from mlflow import MlflowClient

from drift.errors import ReferenceMissing
from stepkit import paths
from stepkit.errors import BadParameter
from stepkit.secret_urls import hide_secrets, hide_secrets_in_text, resolve_url
from stepkit.settings.load import format_make_command
from stepkit.store import lineage, tracking
from stepkit.store.model_address import RegisteredVersion
from stepkit.store.registry import get_registered_version
from stepkit.table import tables
from stepkit.table.columns import COLUMNS_ARTIFACT, Columns, read_columns

LOG = "log:"
TRAINING_STEP_INPUT = "data_train"
PARAMETERS = ("from", "to", "rows", "version")
MAX_ROWS = 2**63 - 1
"""The largest number that SQLite and PostgreSQL take as a limit."""

EXAMPLES = "For example log:?rows=2000 or log:?from=2026-11-01T00:00Z&to=2026-11-02T00:00Z."


@dataclass(frozen=True)
class LogWindow:
    """What `log:?...` asks for: a span of time, or the newest rows; times are in UTC."""

    start: datetime | None = None
    end: datetime | None = None
    rows: int | None = None
    version: str | None = None
    """A model version, or "any"; None: the version that is watched."""


@dataclass(frozen=True)
class WatchedVersion:
    """A registered model version with what is known of its data."""

    model: RegisteredVersion
    columns: Columns
    train_address: str
    test_address: str


def parse_window(address: str) -> LogWindow:
    """Parse `log:?from=TIME&to=TIME&rows=N&version=V`.

    Raises:
        BadParameter: an unknown part, no time, a window that ends before it begins, nothing that bounds it.
    """
    given = dict(parse_qsl(address.removeprefix(LOG).lstrip("?").replace("+", "%2B"), keep_blank_values=True))
    if unknown := set(given) - {*PARAMETERS}:
        raise BadParameter(f"'{address}': unknown part '{min(unknown)}'; there are {', '.join(PARAMETERS)}. {EXAMPLES}")
    start, end = (parse_time(given[name], address) if name in given else None for name in ("from", "to"))
    rows = parse_row_count(given["rows"], address) if "rows" in given else None
    if start and end and not start < end:
        raise BadParameter(f"'{address}': the window ends ({end}) before it begins ({start}). {EXAMPLES}")
    if start is None and rows is None:
        raise BadParameter(f"'{address}' names neither a time to begin (from) nor a number of rows. {EXAMPLES}")
    return LogWindow(start, end, rows, given.get("version"))


def parse_time(text: str, address: str) -> datetime:
    """Parse a time of ISO 8601; one without a zone is in UTC."""
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError) as error:  # the year 1 in a zone east of Greenwich began before all years
        raise BadParameter(f"'{address}': '{text}' is not a time of ISO 8601. {EXAMPLES}") from error


def parse_row_count(text: str, address: str) -> int:
    """Parse a number of rows; one that no database can hold means all rows.

    Raises:
        BadParameter: not a whole number from 1.
    """
    digits = text.lstrip("0")
    if not (text.isascii() and text.isdecimal() and digits):
        raise BadParameter(f"'{address}': rows='{text}' is not a whole number from 1. {EXAMPLES}")
    return int(digits) if len(digits) < len(str(MAX_ROWS)) else MAX_ROWS


def verify_version(client: MlflowClient, version: str, model: WatchedVersion | None) -> None:
    """Raise BadParameter if a window without rows asks for a version that does not exist."""
    if model is None:
        raise BadParameter(f"the prediction log has no row of version {version}. Name a model: -P model_name=NAME.")
    unknown = BadParameter(
        f"{model.model.name} has no version {version} (the champion is {model.model.version}). "
        f"{format_make_command('models', model.model.name)} lists them; version=any takes the rows of all."
    )
    with tracking.handle_missing(lambda _: unknown):
        client.get_model_version(model.model.name, version)


def watched(client: MlflowClient, address: str) -> WatchedVersion:
    """Return a model version with the data that it was trained and tested on.

    Raises:
        BadParameter: no such address, model, alias or version.
        ReferenceMissing: the version was not trained by this project's steps, or their runs are gone.
    """
    model = get_registered_version(address)
    train = _get_training_url(client, model)
    columns = _fetch_columns(lineage.parse_run_id(train), model)
    return WatchedVersion(model, columns, train, train.replace(TRAINING_STEP_INPUT, "data_test"))


def _get_training_url(client: MlflowClient, model: RegisteredVersion) -> str:
    inputs: dict[str, str] = {}
    with tracking.handle_missing():
        inputs = lineage.read_inputs(client.get_run(model.run_id)) if model.run_id else {}
    for name, address in inputs.items():
        if Path(name).stem == TRAINING_STEP_INPUT:
            return address
    run = f"its run {model.run_id} names none, or is gone" if model.run_id else "its run is not known"
    raise ReferenceMissing(
        f"{model.name} version {model.version} has no training data on record ({run}). "
        "Name a reference instead: -P reference=FILE or -P reference=runs:/ID/NAME."
    )


def _fetch_columns(run_id: str, model: RegisteredVersion) -> Columns:
    lost = ReferenceMissing(
        f"the data of {model.name} version {model.version} are missing: run {run_id} has no {COLUMNS_ARTIFACT}. "
        "Name a reference instead (-P reference=FILE), or train again."
    )
    with tempfile.TemporaryDirectory() as folder, tracking.handle_missing(lambda _: lost):
        address = lineage.make_artifact_uri(run_id, COLUMNS_ARTIFACT)
        return read_columns(Path(mlflow.artifacts.download_artifacts(address, dst_path=folder)))


def fetch_table(address: str, folder: Path, text: list[str]) -> pd.DataFrame:
    """Read the table at runs:/ID/NAME, a path (relative: to the repository) or any address that fsspec knows.

    Raises:
        ReferenceMissing: nothing is there.
        TableUnreadable: it is no table.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def lost(error: Exception) -> ReferenceMissing:
        reason = hide_secrets_in_text(" ".join(str(error).split()), resolve_url(address))[:300]
        return ReferenceMissing(f"no table at '{hide_secrets(address)}' ({reason}). Name one that is there.")

    with tracking.handle_missing(lost, ValueError, ImportError, aiohttp.ClientError):
        return tables.read_table(_fetch_file(resolve_url(address), folder), text)


def _fetch_file(address: str, folder: Path) -> Path:
    if address.startswith(("runs:/", "models:/")):
        return Path(mlflow.artifacts.download_artifacts(address, dst_path=str(folder)))
    place = paths.resolve_path(address)
    if "://" not in place:
        return Path(place)
    target = folder / (Path(place.split("?")[0]).name or "table.csv")
    with fsspec.open(place, "rb", compression=None) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy)
    return target

"""Sources of monitoring data: training data of a model version, files, artifacts of runs, windows of the log."""

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
"""The largest limit that SQLite and PostgreSQL accept."""

EXAMPLES = "Examples: log:?rows=2000, log:?from=2026-11-01T00:00Z&to=2026-11-02T00:00Z."


@dataclass(frozen=True)
class LogWindow:
    """Window of the prediction log: a span of time or the newest rows; times in UTC."""

    start: datetime | None = None
    end: datetime | None = None
    rows: int | None = None
    version: str | None = None
    """A model version, or "any"; None: the monitored version."""


@dataclass(frozen=True)
class WatchedVersion:
    """Registered model version with its columns and the URLs of its training and test data."""

    model: RegisteredVersion
    columns: Columns
    train_url: str
    test_url: str


def parse_window(url: str) -> LogWindow:
    """Parse `log:?from=TIME&to=TIME&rows=N&version=V`.

    Raises:
        BadParameter: a part is unknown or invalid, the span is reversed, or neither `from` nor `rows` is set.
    """
    parts = dict(parse_qsl(url.removeprefix(LOG).lstrip("?").replace("+", "%2B"), keep_blank_values=True))
    if unknown := set(parts) - {*PARAMETERS}:
        raise BadParameter(f"'{url}': unknown part '{min(unknown)}' (expected {', '.join(PARAMETERS)}). {EXAMPLES}")
    start, end = (parse_time(parts[name], url) if name in parts else None for name in ("from", "to"))
    rows = parse_row_count(parts["rows"], url) if "rows" in parts else None
    if start and end and not start < end:
        raise BadParameter(f"'{url}': to ({end}) is not after from ({start}). {EXAMPLES}")
    if start is None and rows is None:
        raise BadParameter(f"'{url}': neither from nor rows is set. {EXAMPLES}")
    return LogWindow(start, end, rows, parts.get("version"))


def parse_time(text: str, url: str) -> datetime:
    """Return an ISO 8601 time in UTC; a time without a zone is in UTC.

    Raises:
        BadParameter: the text is not such a time; the message names `url`.
    """
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError) as error:  # OverflowError: the year 1, east of Greenwich, in UTC
        raise BadParameter(f"'{url}': '{text}' is not an ISO 8601 time. {EXAMPLES}") from error


def parse_row_count(text: str, url: str) -> int:
    """Return a number of rows, at most MAX_ROWS.

    Raises:
        BadParameter: the text is not a whole number of at least 1; the message names `url`.
    """
    digits = text.lstrip("0")
    if not (text.isascii() and text.isdecimal() and digits):
        raise BadParameter(f"'{url}': rows='{text}' is not a whole number of at least 1. {EXAMPLES}")
    return int(digits) if len(digits) < len(str(MAX_ROWS)) else MAX_ROWS


def verify_version(client: MlflowClient, version: str, model: WatchedVersion | None) -> None:
    """Raise BadParameter if the version of an empty window does not exist."""
    if model is None:
        raise BadParameter(f"version={version}: no rows in the prediction log. Set the model: -P model_name=NAME.")
    unknown = BadParameter(
        f"{model.model.name} has no version {version} (champion: {model.model.version}). "
        f"{format_make_command('models', model.model.name)} lists the versions; version=any selects all rows."
    )
    with tracking.handle_missing(lambda _: unknown):
        client.get_model_version(model.model.name, version)


def get_watched_version(client: MlflowClient, uri: str) -> WatchedVersion:
    """Return a model version with its training and test data.

    Args:
        client: client of the tracking server.
        uri: models:/NAME@ALIAS or models:/NAME/VERSION.

    Raises:
        BadParameter: the URI, model, alias or version does not exist.
        ReferenceMissing: another project trained the version, or its runs were deleted.
    """
    model = get_registered_version(uri)
    train = _get_training_url(client, model)
    columns = _fetch_columns(lineage.parse_run_id(train), model)
    return WatchedVersion(model, columns, train, train.replace(TRAINING_STEP_INPUT, "data_test"))


def _get_training_url(client: MlflowClient, model: RegisteredVersion) -> str:
    inputs: dict[str, str] = {}
    with tracking.handle_missing():
        inputs = lineage.read_inputs(client.get_run(model.run_id)) if model.run_id else {}
    for name, url in inputs.items():
        if Path(name).stem == TRAINING_STEP_INPUT:
            return url
    run = f"run {model.run_id} names none, or was deleted" if model.run_id else "its run is unknown"
    raise ReferenceMissing(
        f"{model.name} version {model.version}: no recorded training data ({run}). "
        "Use another reference: -P reference=FILE or -P reference=runs:/ID/NAME."
    )


def _fetch_columns(run_id: str, model: RegisteredVersion) -> Columns:
    missing = ReferenceMissing(
        f"{model.name} version {model.version}: run {run_id} has no artifact {COLUMNS_ARTIFACT}. "
        "Use another reference (-P reference=FILE), or train again."
    )
    with tempfile.TemporaryDirectory() as folder, tracking.handle_missing(lambda _: missing):
        url = lineage.make_artifact_uri(run_id, COLUMNS_ARTIFACT)
        return read_columns(Path(mlflow.artifacts.download_artifacts(url, dst_path=folder)))


def fetch_table(url: str, folder: Path, text: list[str]) -> pd.DataFrame:
    """Return the table at runs:/ID/NAME, a path (relative to the repository) or any URL that fsspec supports.

    Args:
        url: source of the table.
        folder: folder for downloads.
        text: columns to read as text.

    Raises:
        ReferenceMissing: the source does not exist.
        TableUnreadable: the file is not a table.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def make_error(error: Exception) -> ReferenceMissing:
        reason = hide_secrets_in_text(" ".join(str(error).split()), resolve_url(url))[:300]
        return ReferenceMissing(f"{hide_secrets(url)}: no table found ({reason}). Check -P reference and -P current.")

    with tracking.handle_missing(make_error, ValueError, ImportError, aiohttp.ClientError):
        return tables.read_table(_fetch_file(resolve_url(url), folder), text)


def _fetch_file(url: str, folder: Path) -> Path:
    if url.startswith(("runs:/", "models:/")):
        return Path(mlflow.artifacts.download_artifacts(url, dst_path=str(folder)))
    path = paths.resolve_path(url)
    if "://" not in path:
        return Path(path)
    target = folder / (Path(path.split("?")[0]).name or "table.csv")
    with fsspec.open(path, "rb", compression=None) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy)
    return target

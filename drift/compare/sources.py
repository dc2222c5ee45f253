"""Sources of monitoring data: training data of a model version, files, artifacts of runs, windows of the log."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

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

TRAINING_STEP_INPUT = "data_train"


@dataclass(frozen=True)
class WatchedVersion:
    """Registered model version with its columns and the URLs of its training and test data."""

    model: RegisteredVersion
    columns: Columns
    train_url: str
    test_url: str


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

"""Connection to the tracking store: choose it, check it, and translate its errors into messages."""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, suppress
from functools import cache
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

import mlflow
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from stepkit.errors import (
    ArtifactsNotStored,
    BadParameter,
    StepError,
    StoreFailed,
    StoreUnusable,
    TrackingRefused,
    TrackingUnreachable,
)
from stepkit.files import to_disk_error
from stepkit.paths import ROOT, find_sqlite_file, make_sqlite_url, resolve_store_url, verify_mlflow_path
from stepkit.secret_urls import hide_secrets
from stepkit.store import checks
from stepkit.store.checks import find_driver_error
from stepkit.store.relocate import relocate_store

log = logging.getLogger("stepkit.store.tracking")

DEFAULT_URI = make_sqlite_url(ROOT / "mlflow.db")
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # MLflow would retry 7 times, for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",  # seconds; MLflow would wait 120 for each attempt
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # most files have a few bytes
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # MLflow would print a URL for every run
}
"""Environment variables that every command sets for MLflow, unless the user has set them."""

_LOST = (requests.ConnectionError, requests.Timeout, requests.exceptions.RetryError, TrackingUnreachable)
_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_SIGNS = {
    TrackingRefused: ("401 Client Error", "403 Client Error"),
    TrackingUnreachable: (
        "API request to", "Max retries exceeded", "Connection refused", "500 Server Error", "507 Server Error",
    ),
}  # fmt: skip
"""Texts of errors of which MLflow keeps only the message: a failed download, or a response that is not JSON."""

_OPENING = threading.Lock()


def connect(configured: str | None = None, run_id: str = "") -> str:
    """Choose the tracking URI, verify that the store responds, and set it for MLflow; return the URI.

    Args:
        configured: `main.mlflow_tracking_url`, which overrides MLFLOW_TRACKING_URI; the default is the SQLite file in
            the repository root.
        run_id: the run that `mlflow run` created for this process, if it is no longer in the environment.

    Raises:
        TrackingUnreachable: the server or database does not respond.
        TrackingRefused: the server does not accept this account.
        StoreUnusable: the database file cannot be opened or written.
        BadParameter: `mlflow run` was started in another folder with a relative URL, or MLflow would misread the path.
    """
    _prepare_mlflow()
    forbid_pickles()
    chosen = configured or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    uri = resolve_store_url(chosen)
    file = find_sqlite_file(uri)
    launched = not configured and (run_id or "MLFLOW_RUN_ID" in os.environ)
    if launched and file and not file.is_file() and "////" not in chosen:
        raise BadParameter(
            f"MLFLOW_TRACKING_URI: {chosen} is relative to the folder where `mlflow run` was started, not to the "
            f"folder of the step. Give the whole path: sqlite:////FOLDER/{file.name}"
        )
    is_database = "sql" in uri.partition("://")[0]
    if uri.startswith(("http://", "https://")):
        checks.verify_server(uri)
        checks.verify_account(uri)
    elif file:
        checks.verify_file(file)
    elif is_database:
        checks.verify_database(uri)
    mlflow.set_tracking_uri(uri)
    if is_database:
        _open_store(uri, file)
    return uri


def _prepare_mlflow() -> None:
    for name, text in ENVIRONMENT.items():
        os.environ.setdefault(name, text)
    for name in ("mlflow", "alembic"):
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.WARNING))
    # This module of MLflow logs each database error with a traceback before it raises the error.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def _open_store(uri: str, file: Path | None) -> None:
    """Open a store with `mlruns` next to its file, or in the repository for a database server."""
    folder = file.parent if file else ROOT
    verify_mlflow_path(folder)
    _open_in_folder(uri, folder)
    if not file:
        return
    if (encoded_folder := Path(quote(str(folder)))) != folder:
        with suppress(OSError):  # MLflow's command line creates an empty folder with the encoded name
            os.removedirs(encoded_folder)
    try:
        if changes := relocate_store(file):
            log.warning("%s was moved: %d artifact locations now point to %s", file.name, changes, folder)
    except sqlite3.Error as error:
        raise checks.make_unusable_error(file, error) from error


@cache
def _open_in_folder(uri: str, folder: Path) -> None:
    """Open a store in `folder`, because MLflow keeps its artifacts in the working directory of that moment."""
    with _OPENING, chdir(folder):
        MlflowClient(uri)


def forbid_pickles() -> None:
    """Forbid MLflow to load pickles, which can run any code; our own models have none."""
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")


def stop_retrying(error: BaseException) -> None:
    """Switch retries off after an error of an unreachable server, so that the remaining calls fail at once."""
    if is_unreachable(error):
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"


def end_active_run(status: str) -> None:
    """End the active run; ignore a failure of the server, because the first error is the one to report."""
    with suppress(MlflowException, OSError):
        mlflow.end_run(status)


def is_refused(error: BaseException) -> bool:
    """Return whether an error of MLflow means that the account is unknown or lacks permission."""
    return _find_status(error) in _REFUSED or _has_sign(error, TrackingRefused)


def is_unreachable(error: BaseException) -> bool:
    """Return whether an error of MLflow means that the server is unreachable or failing, not a missing item."""
    if isinstance(error, requests.HTTPError):
        return (_find_status(error) or 0) >= HTTPStatus.INTERNAL_SERVER_ERROR
    if any(
        isinstance(cause, _LOST) or _is_connection_lost(find_driver_error(cause)) for cause in (error, error.__cause__)
    ):
        return True
    return isinstance(error, MlflowException) and _has_sign(error, TrackingUnreachable)


def _has_sign(error: BaseException, kind: type[StepError]) -> bool:
    return any(sign in str(error) for sign in _SIGNS[kind])


def _find_status(error: BaseException) -> int | None:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code
    return error.get_http_status_code() if isinstance(error, MlflowException) else None


def _is_connection_lost(error: BaseException | None) -> bool:
    """Return whether an error of psycopg is about the connection: an error of the PostgreSQL server has an SQLSTATE."""
    return error is not None and getattr(error, "sqlstate", "") is None


def retry_races(call: Callable[[], object]) -> None:
    """Call a function that writes to MLflow's store, up to 10 times; raise its last MlflowException.

    The store looks up a name (of a table, an alias, a tag) and inserts it in a second step, so one of two simultaneous
    processes fails. Its next attempt finds the name.
    """
    for tries_left in reversed(range(10)):
        try:
            call()
            return
        except MlflowException as error:
            if not tries_left or is_unreachable(error):
                raise
            time.sleep(random.uniform(0.0, 0.3))


def to_store_error(error: BaseException, last_resort: bool = False) -> StepError | None:
    """Return the error to raise if the store or a disk is unusable, or None if an item is missing in the store.

    With `last_resort`, nothing else handles the error, so any other error of MLflow is translated too.
    """
    if isinstance(error, TrackingUnreachable | TrackingRefused | ArtifactsNotStored | StoreUnusable | StoreFailed):
        return error
    store = hide_secrets(mlflow.get_tracking_uri())
    if is_refused(error):
        return checks.make_refused_error(store)
    if is_unreachable(error):
        return _make_unreachable_error(error, store)
    if cause := find_driver_error(error) or find_driver_error(error.__cause__):
        return checks.make_unusable_error(store, cause)
    if last_resort and isinstance(error, MlflowException):
        reason = checks.to_one_line(error)
        return StoreFailed(f"the tracking store {store}: {reason}. Fix this, then run the same command again.")
    return to_disk_error(error)


def _make_unreachable_error(error: BaseException, server: str) -> StepError:
    if "/mlflow-artifacts/" in str(error):
        with suppress(TrackingUnreachable):  # a server that cannot write a file may close the connection early
            checks.verify_server(mlflow.get_tracking_uri())
            return ArtifactsNotStored(
                f"the tracking server {server} could not store an artifact: its disk is full or not writable (see its "
                "log). Nothing was marked current. Free space, then run the same command again."
            )
    return TrackingUnreachable(
        f"the tracking server {server} stopped responding ({type(error).__name__}). "
        "Nothing was marked current. Start it, then run the same command again."
    )


@contextmanager
def handle_missing(problem: Callable[[Exception], Exception] | None = None, *more: type[Exception]) -> Iterator[None]:
    """Leave the block if a look-up in it fails because an item is missing; re-raise if the store is unusable.

    Args:
        problem: function that returns the error to raise instead; None to leave the block without an error.
        more: further error classes that mean a missing or unusable item, besides those of MLflow and of files.
    """
    kinds: tuple[type[Exception], ...] = (MlflowException, OSError, *more)
    try:
        yield
    except kinds as error:
        if to_store_error(error):
            raise
        if problem:
            raise problem(error) from error

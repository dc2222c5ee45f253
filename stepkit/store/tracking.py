"""Which tracking server is used, and whether it answers."""

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
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # MLflow tries 7 times, for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",  # seconds; MLflow waits 120 for each answer, as often as it retries
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # of files of a few bytes
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # of every run
}
"""Variables that every command which uses the tracking server sets for MLflow, unless the user did."""

_LOST = (requests.ConnectionError, requests.Timeout, requests.exceptions.RetryError, TrackingUnreachable)
_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_SIGNS = {
    TrackingRefused: ("401 Client Error", "403 Client Error"),
    TrackingUnreachable: (
        "API request to", "Max retries exceeded", "Connection refused", "500 Server Error", "507 Server Error",
    ),
}  # fmt: skip
"""Words of those errors of which MLflow keeps the text alone: of a download, and of an answer that is not JSON."""

_OPENING = threading.Lock()


def connect(configured: str | None = None, run_id: str = "") -> str:
    """Choose the tracking URI, see that it answers, and hand it to MLflow.

    Args:
        configured: `main.mlflow_tracking_url`; wins over MLFLOW_TRACKING_URI, which wins over the
            SQLite file in the repository root.
        run_id: the run that `mlflow run` has made for this process, if the environment does not name it any more.

    Raises:
        TrackingUnreachable: a server or database that does not answer.
        TrackingRefused: a server that does not take this account.
        StoreUnusable: a database file that cannot be opened or written.
        BadParameter: `mlflow run` was typed elsewhere with a relative address, or a path that MLflow misreads.
    """
    _prepare_mlflow()
    forbid_pickles()
    given = configured or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    uri = resolve_store_url(given)
    file = find_sqlite_file(uri)
    launched = not configured and (run_id or "MLFLOW_RUN_ID" in os.environ)
    if launched and file and not file.is_file() and "////" not in given:
        raise BadParameter(
            f"MLFLOW_TRACKING_URI: {given} is relative to the folder where `mlflow run` was typed, and means another "
            f"file here. Give the whole path: sqlite:////FOLDER/{file.name}"
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
    # it logs each error of a database with its traceback, and raises it too
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def _open_store(uri: str, file: Path | None) -> None:
    """Open a store with `mlruns` next to its file (for another database: in the repository)."""
    folder = file.parent if file else ROOT
    verify_mlflow_path(folder)
    _open_in_folder(uri, folder)
    if not file:
        return
    if (stray := Path(quote(str(folder)))) != folder:
        with suppress(OSError):  # MLflow's command line makes an empty folder by the encoded name of its own
            os.removedirs(stray)
    try:
        if moved := relocate_store(file):
            log.warning("%s was moved: %d locations of artifacts now name %s", file.name, moved, folder)
    except sqlite3.Error as error:
        raise checks.make_unusable_error(file, error) from error


@cache
def _open_in_folder(uri: str, folder: Path) -> None:
    """Open a store in `folder`: the working directory of that moment is the place of its artifacts in this process."""
    with _OPENING, chdir(folder):
        MlflowClient(uri)


def forbid_pickles() -> None:
    """A pickle in a model runs what it likes when it is loaded; our own models have none."""
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")


def stop_retrying(error: BaseException) -> None:
    """After a server that is gone, let what is left to do (ending runs) try once instead of waiting again and again."""
    if is_unreachable(error):
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"


def end_active_run(status: str) -> None:
    """End the active run; if the server is the trouble, the first error is the one to show, not this one."""
    with suppress(MlflowException, OSError):
        mlflow.end_run(status)


def is_refused(error: BaseException) -> bool:
    """Return whether `error` of an MLflow call says that this account is unknown or may not do that."""
    return _find_status(error) in _REFUSED or _has_sign(error, TrackingRefused)


def is_unreachable(error: BaseException) -> bool:
    """Return whether `error` of an MLflow call says that the server is away or in trouble, not: no such thing."""
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
    """Whether an error of psycopg is about the line to PostgreSQL: an answer of the server has an SQLSTATE."""
    return error is not None and getattr(error, "sqlstate", "") is None


def retry_races(call: Callable[[], object]) -> None:
    """Make a call that writes to MLflow's store, again if it is refused, a few times; raise its last MlflowException.

    The store looks whether it knows a name (a table, an alias, a tag) and enters it in two steps; of two processes
    that do so at the same moment one is refused. At the next try the name is known.
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
    """Return the error to show if the store or a disk cannot be used, or None: there is no such thing in the store.

    Args:
        last_resort: nothing else is left to handle `error`, so any other error of MLflow is a trouble too.
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
        return StoreFailed(f"the tracking store {store}: {reason}. Correct it and run the same command again.")
    return to_disk_error(error)


def _make_unreachable_error(error: BaseException, server: str) -> StepError:
    if "/mlflow-artifacts/" in str(error):
        with suppress(TrackingUnreachable):  # a server that cannot write a file may hang up before it has read it all
            checks.verify_server(mlflow.get_tracking_uri())
            return ArtifactsNotStored(
                f"the tracking server {server} could not store an artifact: its disk is full, or it may not write "
                "there; its log says which. Make room and run the same command again; nothing was marked current."
            )
    return TrackingUnreachable(
        f"the tracking server {server} went away in the middle ({type(error).__name__}). "
        "Nothing was marked current; run the same command again when it is back."
    )


@contextmanager
def handle_missing(problem: Callable[[Exception], Exception] | None = None, *more: type[Exception]) -> Iterator[None]:
    """Leave the block where a look-up fails because the thing is missing; raise again if the store cannot be used.

    Args:
        problem: makes the error to raise instead of leaving quietly.
        more: further errors, besides those of MLflow and of files, that mean a missing or unusable thing.
    """
    kinds: tuple[type[Exception], ...] = (MlflowException, OSError, *more)
    try:
        yield
    except kinds as error:
        if to_store_error(error):
            raise
        if problem:
            raise problem(error) from error

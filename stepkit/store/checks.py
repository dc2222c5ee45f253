"""Checks of a tracking store before its first use, and the error messages for an unusable store."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from contextlib import closing
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

import requests
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from stepkit.errors import StoreUnusable, TrackingRefused, TrackingUnreachable
from stepkit.secret_urls import hide_secrets, hide_secrets_in_text

log = logging.getLogger("stepkit.store.tracking")

RESPONSE_SECONDS = 5.0
CLOCK_SECONDS = 30.0
"""Largest accepted clock difference. The Date header has whole seconds, and a slow response is seconds old."""

REMEDY = "Start or repair it, or set another store: MLFLOW_TRACKING_URI or main.mlflow_tracking_url."


def verify_file(file: Path) -> None:
    """Raise StoreUnusable unless an SQLite file and its folder are usable. MLflow would retry for minutes."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        for path in (file.parent, *([file] if file.exists() else [])):
            if not os.access(path, os.W_OK):
                raise PermissionError(f"{path} is not writable")
        if file.exists():
            with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=rw", uri=True)) as connection:
                connection.execute("PRAGMA schema_version")
    except (OSError, sqlite3.Error) as error:
        raise make_unusable_error(file, error) from error


def verify_database(uri: str) -> None:
    """Raise TrackingUnreachable unless a database server accepts a connection at the first attempt."""
    from mlflow.store.db.utils import create_sqlalchemy_engine  # slow to import, and only database URLs need it

    os.environ.setdefault("PGCONNECT_TIMEOUT", f"{RESPONSE_SECONDS:.0f}")
    try:
        engine = create_sqlalchemy_engine(uri)
        engine.connect().close()
        engine.dispose()
    except Exception as error:  # each database driver raises its own errors
        reason = hide_secrets_in_text(to_one_line(find_driver_error(error) or error), uri)
        raise TrackingUnreachable(f"the tracking store {hide_secrets(uri)}: {reason}. {REMEDY}") from error


def verify_server(uri: str) -> None:
    """Raise TrackingUnreachable unless an MLflow server responds; log a warning if its clock differs from ours.

    The clocks matter because the newest run is found by its time.
    """
    hint = "Start it (mlflow server --port ...), or set another: MLFLOW_TRACKING_URI or main.mlflow_tracking_url."
    try:
        response = requests.get(f"{uri.rstrip('/')}/health", timeout=RESPONSE_SECONDS)
    except requests.RequestException as error:
        raise TrackingUnreachable(
            f"the tracking server {hide_secrets(uri)} does not respond ({type(error).__name__}). {hint}"
        ) from error
    if not response.ok:
        raise TrackingUnreachable(
            f"{hide_secrets(uri)}/health: status {response.status_code}, so not a working MLflow server. {hint}"
        )
    date = response.headers.get("Date")
    ahead = time.time() - parsedate_to_datetime(date).timestamp() if date else 0.0
    if abs(ahead) > CLOCK_SECONDS:
        log.warning(
            "the clock of this machine is %.0f s %s that of %s. Set both by NTP, or an older run may count as newest.",
            abs(ahead), "ahead of" if ahead > 0 else "behind", hide_secrets(uri),
        )  # fmt: skip


def verify_account(uri: str) -> None:
    """Raise TrackingRefused if a server with accounts rejects ours, by a request that every account may make."""
    try:
        response = http_request(
            get_default_host_creds(uri), "/api/2.0/mlflow/experiments/search", "GET", params={"max_results": 1},
            timeout=RESPONSE_SECONDS, max_retries=0,
        )  # fmt: skip
    except MlflowException:
        return  # the server has just responded, and the next call to it will report any other problem
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        raise make_refused_error(uri)


def make_refused_error(uri: str) -> TrackingRefused:
    """Return the error to raise when the server denies a request of this account."""
    name = os.environ.get("MLFLOW_TRACKING_USERNAME")
    account = f"the account '{name}'" if name else "callers without an account"
    return TrackingRefused(
        f"the tracking server {hide_secrets(uri)} refuses {account}. Set MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD to an account that may write (in the stack: `pipeline`, password in docker/.env)."
    )


def make_unusable_error(store: Path | str, error: BaseException) -> StoreUnusable:
    """Return the error to raise when the database of a store fails."""
    return StoreUnusable(f"the tracking store {store}: {to_one_line(error)}. {REMEDY}")


def find_driver_error(error: BaseException | None) -> BaseException | None:
    """Return the driver's error inside an SQLAlchemy error, or None. A duplicate row is not an error."""
    cause = getattr(error, "orig", None)
    return cause if isinstance(cause, BaseException) and type(error).__name__ != "IntegrityError" else None


def to_one_line(error: BaseException) -> str:
    """Return the text of an error in one line of at most 300 characters."""
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__

"""Checks of a tracking store before it is used, and the errors that name what is wrong with it."""

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

ANSWER_SECONDS = 5.0
CLOCK_SECONDS = 30.0
"""The Date of an answer has whole seconds, and a slow one is seconds old; runs are further apart than this."""

ANOTHER_STORE = "Start it or correct it, or name another: MLFLOW_TRACKING_URI or main.mlflow_tracking_url."


def verify_file(file: Path) -> None:
    """Raise StoreUnusable unless an SQLite file, or its folder, can be used. MLflow tries for minutes."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        for place in (file.parent, *([file] if file.exists() else [])):
            if not os.access(place, os.W_OK):
                raise PermissionError(f"{place} cannot be written")
        if file.exists():
            with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=rw", uri=True)) as connection:
                connection.execute("PRAGMA schema_version")
    except (OSError, sqlite3.Error) as error:
        raise make_unusable_error(file, error) from error


def verify_database(uri: str) -> None:
    """Raise TrackingUnreachable unless a database server answers, asked once."""
    from mlflow.store.db.utils import create_sqlalchemy_engine  # takes its time to load, and a server needs none

    os.environ.setdefault("PGCONNECT_TIMEOUT", f"{ANSWER_SECONDS:.0f}")
    try:
        engine = create_sqlalchemy_engine(uri)
        engine.connect().close()
        engine.dispose()
    except Exception as error:  # each driver raises its own
        reason = hide_secrets_in_text(to_one_line(find_driver_error(error) or error), uri)
        raise TrackingUnreachable(f"the tracking store {hide_secrets(uri)}: {reason}. {ANOTHER_STORE}") from error


def verify_server(uri: str) -> None:
    """Raise TrackingUnreachable unless a server of MLflow answers; log a warning if its clock differs from ours.

    By such clocks it is decided whose run is the newest.
    """
    hint = "Start it (mlflow server --port ...), or name another: MLFLOW_TRACKING_URI or main.mlflow_tracking_url."
    try:
        answer = requests.get(f"{uri.rstrip('/')}/health", timeout=ANSWER_SECONDS)
    except requests.RequestException as error:
        raise TrackingUnreachable(
            f"the tracking server {hide_secrets(uri)} does not answer ({type(error).__name__}). {hint}"
        ) from error
    if not answer.ok:
        raise TrackingUnreachable(
            f"{hide_secrets(uri)}/health answers {answer.status_code}: no MLflow server there? {hint}"
        )
    date = answer.headers.get("Date")
    ahead = time.time() - parsedate_to_datetime(date).timestamp() if date else 0.0
    if abs(ahead) > CLOCK_SECONDS:
        log.warning(
            "the clock of this machine is %.0f s %s that of %s; set both by NTP, or an older run may pass for newest",
            abs(ahead), "ahead of" if ahead > 0 else "behind", hide_secrets(uri),
        )  # fmt: skip


def verify_account(uri: str) -> None:
    """Ask something for which a server with accounts wants to know who asks; any account may ask it."""
    try:
        answer = http_request(
            get_default_host_creds(uri), "/api/2.0/mlflow/experiments/search", "GET", params={"max_results": 1},
            timeout=ANSWER_SECONDS, max_retries=0,
        )  # fmt: skip
    except MlflowException:
        return  # it answered a moment ago; whatever is wrong now is told by the call that needs it
    if answer.status_code == HTTPStatus.UNAUTHORIZED:
        raise make_refused_error(uri)


def make_refused_error(uri: str) -> TrackingRefused:
    """Return the error to show when the server does not let this account do what it asks."""
    account = os.environ.get("MLFLOW_TRACKING_USERNAME")
    who = f"the account '{account}'" if account else "callers without an account"
    return TrackingRefused(
        f"the tracking server {hide_secrets(uri)} refuses {who}. Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to "
        "those of an account that may write there (in the stack: `pipeline`, its password is in docker/.env)."
    )


def make_unusable_error(store: Path | str, error: BaseException) -> StoreUnusable:
    return StoreUnusable(f"the tracking store {store}: {to_one_line(error)}. {ANOTHER_STORE}")


def find_driver_error(error: BaseException | None) -> BaseException | None:
    """Return the driver's error in one of SQLAlchemy, unless it is about a row that is there already."""
    cause = getattr(error, "orig", None)
    return cause if isinstance(cause, BaseException) and type(error).__name__ != "IntegrityError" else None


def to_one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__

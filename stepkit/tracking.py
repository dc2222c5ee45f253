"""Which tracking server is used, and whether it answers."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import requests
from mlflow.exceptions import MlflowException

from stepkit.addresses import shown
from stepkit.errors import TrackingUnreachable

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_URI = f"sqlite:///{ROOT / 'mlflow.db'}"
ANSWER_SECONDS = 5.0
REQUEST_RETRIES = "3"
"""MLflow's own default of 7 keeps a person waiting for minutes before it says that the server is gone."""

TRIES = 10
LONGEST_PAUSE_SECONDS = 0.3

_CONNECTION_SIGNS = ("API request to", "Max retries exceeded", "Connection refused", "could not connect")


def from_root(place: str) -> str:
    """A relative path means: relative to the repository, wherever the command was typed; an address stays as it is."""
    return place if "://" in place or place.startswith("runs:/") else str((ROOT / place).resolve())


def connect(configured: str | None = None) -> str:
    """Choose the tracking URI, see that it answers, and hand it to MLflow.

    Args:
        configured: `main.mlflow_tracking_url`; wins over MLFLOW_TRACKING_URI, which wins over the
            SQLite file in the repository root.

    Raises:
        TrackingUnreachable: a server address that does not answer.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", REQUEST_RETRIES)
    # a pickle in a model runs what it likes when it is loaded; our own models have none
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    uri = configured or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        # each step has a working directory of its own, and would have a database of its own
        uri = f"sqlite:///{from_root(uri.removeprefix('sqlite:///'))}"
    if uri.startswith(("http://", "https://")):
        _expect_answer(uri)
    mlflow.set_tracking_uri(uri)
    return uri


def _expect_answer(uri: str) -> None:
    hint = "Start it (mlflow server --port ...), or name another: MLFLOW_TRACKING_URI or main.mlflow_tracking_url."
    try:
        answer = requests.get(f"{uri.rstrip('/')}/health", timeout=ANSWER_SECONDS)
    except requests.RequestException as error:
        raise TrackingUnreachable(
            f"the tracking server {shown(uri)} does not answer ({type(error).__name__}). {hint}"
        ) from error
    if not answer.ok:
        raise TrackingUnreachable(f"{shown(uri)}/health answers {answer.status_code}: no MLflow server there? {hint}")


def lose_patience(error: BaseException) -> None:
    """After a server that is gone, let what is left to do (ending runs) try once instead of waiting again and again."""
    if is_unreachable(error):
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"


def gone(error: BaseException) -> TrackingUnreachable:
    """Return the error to show when the server went away in the middle of the work."""
    return TrackingUnreachable(
        f"the tracking server {shown(mlflow.get_tracking_uri())} went away in the middle ({type(error).__name__}). "
        "Nothing was marked current; run the same command again when it is back."
    )


def through_races(call: Callable[[], object]) -> None:
    """Make a call that writes to MLflow's store, again if it is refused, a few times.

    The store looks whether it knows a name (a table, an alias, a tag) and enters it in two steps; of two processes
    that do so at the same moment one is refused. At the next try the name is known.

    Raises:
        MlflowException: refused at every try, or the server does not answer.
    """
    for tries_left in reversed(range(TRIES)):
        try:
            call()
            break
        except MlflowException as error:
            if not tries_left or is_unreachable(error):
                raise
            time.sleep(random.uniform(0.0, LONGEST_PAUSE_SECONDS))


def is_unreachable(error: BaseException) -> bool:
    """Whether `error` of an MLflow call says that the server could not be reached (as opposed to: it refused)."""
    if isinstance(error, requests.ConnectionError | requests.Timeout | TrackingUnreachable):
        return True
    return isinstance(error, MlflowException) and any(sign in str(error) for sign in _CONNECTION_SIGNS)

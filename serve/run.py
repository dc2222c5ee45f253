"""serve: the registered champion -> an HTTP server that answers with its predictions and records each of them."""

from __future__ import annotations

import argparse
import gc
import os
import socket
import sys
import tempfile
from contextlib import ExitStack, suppress
from shlex import quote

from prediction_log.errors import LogUnfit
from prediction_log.settings import DEFAULT_URL, URL_VARIABLE
from serve.errors import AddressUnusable
from serve.http.shutdown import SUPERVISOR_VARIABLE, stop_with_parent
from serve.settings import (
    KEY_VARIABLE,
    METRICS_FOLDER_VARIABLE,
    SETTINGS_VARIABLE,
    ServeSettings,
    load_settings,
    read_api_key,
)
from stepkit.errors import StepError
from stepkit.paths import ROOT, verify_mlflow_path
from stepkit.processes import interrupt_on_signals, interrupted
from stepkit.secret_urls import verify_no_secret
from stepkit.step.exit import exit_with_error
from stepkit.step.flags import make_settings_parser

SECONDS_TO_START = 60
# `mlflow run` sets it for the command of a project; who else starts a scorer may want it to live on alone
STARTED_BY_MLFLOW = "MLFLOW_RUN_ID"


def make_parser() -> argparse.ArgumentParser:
    return make_settings_parser(ServeSettings, "serve", "serve", __doc__)


def main(argv: list[str] | None = None) -> None:
    try:
        if not os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http"):
            verify_mlflow_path(ROOT)  # before the wait for a champion, which cannot come
        settings = _set_log_url(load_settings(vars(make_parser().parse_args(argv))))
        read_api_key()
    except StepError as error:
        exit_with_error(error, 2)
    try:
        run_scorer(settings)
    except StepError as error:
        exit_with_error(error, 2 if isinstance(error, LogUnfit) else 1)
    # Where the signal fell into an exec() of a text, as dataclasses are made by, Python takes the KeyboardInterrupt for
    # an unhandled one although it was handled, and would end by SIGINT; not so if it is told to exit.
    sys.exit(0)


def _set_log_url(settings: ServeSettings) -> ServeSettings:
    """Fill in the log's address; with a password it may come from the environment only, else raise SecretInAddress."""
    verify_no_secret(settings.log_url, "log_url", f"Set {URL_VARIABLE} instead.")
    # left there it would make the model itself write a log, as under MLflow's own server
    from_environment = os.environ.pop(URL_VARIABLE, "")
    return settings.model_copy(update={"log_url": settings.log_url or from_environment or DEFAULT_URL})


def verify_port_is_free(host: str, port: int) -> None:
    """Raise AddressUnusable where nobody can listen."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return
    except OSError as error:
        raise AddressUnusable(
            f"the scorer cannot listen on {host}, port {port}: {error.strerror or error}. "
            "Name another: -P port=5001, or serve.port in config.yaml."
        ) from error


def run_scorer(settings: ServeSettings) -> None:
    """Answer until SIGTERM, Ctrl-C or the end of `mlflow run`; then finish what was accepted, and return."""
    os.environ[SETTINGS_VARIABLE] = settings.model_dump_json()
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        interrupt_on_signals()
        if STARTED_BY_MLFLOW in os.environ:
            stop_with_parent(os.getppid())
        verify_port_is_free(settings.host, settings.port)
        if settings.workers > 1:
            _prepare_workers(settings, stack)
            print_welcome(settings)
        _listen(settings)


def print_welcome(settings: ServeSettings) -> None:
    """Print the lines for people, once nothing is left that ends the start with an error."""
    print(format_welcome(settings, bool(read_api_key())), file=sys.stderr, flush=True)


def format_welcome(settings: ServeSettings, with_key: bool) -> str:
    """Return what a person wants to know of a scorer that starts; the lines of JSON follow."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    model, example = f"models:/{settings.model_name}@{settings.alias}", "serving_input_example.json"
    key = f' -H "Authorization: Bearer ${KEY_VARIABLE}"' if with_key else ""
    return (
        f"scorer of {model} on {url}\n"
        f"  docs  {url}/docs\n"
        f"  try   mlflow artifacts download --artifact-uri {quote(f'{model}/{example}')} --dst-path outputs\n"
        f"        curl {url}/invocations -H 'Content-Type: application/json'{key} -d @outputs/{example}\n"
        f"  stop  Ctrl-C"
    )


def _prepare_workers(settings: ServeSettings, stack: ExitStack) -> None:
    from prediction_log.writer import PredictionLog

    # what is wrong with the log is said once, here, and not by each worker
    PredictionLog.open(settings.log_url, settings.log, must_answer=False).close()
    os.environ[METRICS_FOLDER_VARIABLE] = stack.enter_context(tempfile.TemporaryDirectory(prefix="scorer-metrics-"))
    os.environ[SUPERVISOR_VARIABLE] = str(os.getpid())


def _listen(settings: ServeSettings) -> None:
    if settings.workers == 1:
        # collecting garbage takes a tenth of the time of the imports; model_follower.py turns it on again
        gc.disable()
    import uvicorn  # not needed for --help and a mistyped setting

    if interrupted.is_set():
        raise KeyboardInterrupt
    uvicorn.run(
        "serve.http.app:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        loop="uvloop",
        http="serve.http.protocol:Protocol",
        ws="none",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=settings.stop_seconds,
        timeout_worker_healthcheck=SECONDS_TO_START,
    )


if __name__ == "__main__":
    main()

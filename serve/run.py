"""serve: the registered champion -> an HTTP server that returns its predictions and records each of them."""

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
STARTED_BY_MLFLOW = "MLFLOW_RUN_ID"
"""Environment variable that `mlflow run` sets for its child. A scorer started in another way may outlive its parent."""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    return make_settings_parser(ServeSettings, "serve", "serve", __doc__)


def main(argv: list[str] | None = None) -> None:
    """Run the scorer; exit with status 2 for bad settings or an unusable log URL, 1 for any other error."""
    try:
        if not os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http"):
            verify_mlflow_path(ROOT)  # MLflow could not use the store: the scorer would wait for a champion for ever
        settings = _set_log_url(load_settings(vars(make_parser().parse_args(argv))))
        read_api_key()
    except StepError as error:
        exit_with_error(error, 2)
    try:
        run_scorer(settings)
    except StepError as error:
        exit_with_error(error, 2 if isinstance(error, LogUnfit) else 1)
    # If the signal arrives during exec() of source text, which dataclasses use, Python treats the KeyboardInterrupt as
    # unhandled although it was handled, and ends by SIGINT. An explicit exit prevents that.
    sys.exit(0)


def _set_log_url(settings: ServeSettings) -> ServeSettings:
    """Return the settings with the log's URL; raise SecretInAddress for a password outside the environment."""
    verify_no_secret(settings.log_url, "log_url", f"Set {URL_VARIABLE} instead.")
    # The variable would make the model itself write a log, as it does in MLflow's own server.
    from_environment = os.environ.pop(URL_VARIABLE, "")
    return settings.model_copy(update={"log_url": settings.log_url or from_environment or DEFAULT_URL})


def verify_port_is_free(host: str, port: int) -> None:
    """Raise AddressUnusable if the scorer cannot listen on the host and port."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return
    except OSError as error:
        raise AddressUnusable(
            f"port {port} on {host}: cannot listen ({error.strerror or error}). "
            "Choose another: -P port=5001, or serve.port in config.yaml."
        ) from error


def run_scorer(settings: ServeSettings) -> None:
    """Serve until SIGTERM, Ctrl-C or the end of `mlflow run`; finish the accepted requests, then return."""
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
    """Print the welcome text, once all checks that could stop the start have passed."""
    print(format_welcome(settings, bool(read_api_key())), file=sys.stderr, flush=True)


def format_welcome(settings: ServeSettings, with_key: bool) -> str:
    """Return the text for people that precedes the JSON log: the pages, an example request, how to stop."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    model, example = f"models:/{settings.model_name}@{settings.alias}", "serving_input_example.json"
    key = f' -H "Authorization: Bearer ${KEY_VARIABLE}"' if with_key else ""
    return (
        f"scorer of {model} on {url}\n"
        f"  docs  {url}/docs\n"
        f"  form  {url}/try\n"
        f"  try   mlflow artifacts download --artifact-uri {quote(f'{model}/{example}')} --dst-path outputs\n"
        f"        curl {url}/invocations -H 'Content-Type: application/json'{key} -d @outputs/{example}\n"
        f"  stop  Ctrl-C"
    )


def _prepare_workers(settings: ServeSettings, stack: ExitStack) -> None:
    from prediction_log.writer import PredictionLog

    # Report a problem with the log once, here, instead of in each worker.
    PredictionLog.open(settings.log_url, settings.log, must_answer=False).close()
    os.environ[METRICS_FOLDER_VARIABLE] = stack.enter_context(tempfile.TemporaryDirectory(prefix="scorer-metrics-"))
    os.environ[SUPERVISOR_VARIABLE] = str(os.getpid())


def _listen(settings: ServeSettings) -> None:
    if settings.workers == 1:
        # Garbage collection takes a tenth of the time of the imports; model_follower.py enables it again.
        gc.disable()
    import uvicorn  # here, so that --help and errors in settings do not wait for it

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

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
from serve.http.shutdown import SUPERVISOR, end_with
from serve.settings import HANDED_OVER, KEY, METRICS_FOLDER, ServeSettings, key_from_environment, settings_from
from stepkit.errors import StepError
from stepkit.paths import ROOT, expect_usable
from stepkit.processes import interrupt_on_signals, interrupted
from stepkit.secret_urls import expect_no_secret
from stepkit.step.exit import leave
from stepkit.step.flags import settings_parser

SECONDS_TO_START = 60
# `mlflow run` sets it for the command of a project; who else starts a scorer may want it to live on alone
STARTED_BY_MLFLOW = "MLFLOW_RUN_ID"


def parser() -> argparse.ArgumentParser:
    return settings_parser(ServeSettings, "serve", "serve", __doc__)


def main(argv: list[str] | None = None) -> None:
    try:
        if not os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http"):
            expect_usable(ROOT)  # before the wait for a champion, which cannot come
        settings = _with_log(settings_from(vars(parser().parse_args(argv))))
        key_from_environment()
    except StepError as error:
        leave(error, 2)
    try:
        serve(settings)
    except StepError as error:
        leave(error, 2 if isinstance(error, LogUnfit) else 1)
    # Where the signal fell into an exec() of a text, as dataclasses are made by, Python takes the KeyboardInterrupt for
    # an unhandled one although it was handled, and would end by SIGINT; not so if it is told to exit.
    sys.exit(0)


def _with_log(settings: ServeSettings) -> ServeSettings:
    """Fill in the log's address; with a password it may come from the environment only, else raise SecretInAddress."""
    expect_no_secret(settings.log_url, "log_url", f"Set {URL_VARIABLE} instead.")
    # left there it would make the model itself write a log, as under MLflow's own server
    from_environment = os.environ.pop(URL_VARIABLE, "")
    return settings.model_copy(update={"log_url": settings.log_url or from_environment or DEFAULT_URL})


def expect_free(host: str, port: int) -> None:
    """Raise AddressUnusable where nobody can listen."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return
    except OSError as error:
        raise AddressUnusable(
            f"the scorer cannot listen on {host}, port {port}: {error.strerror or error}. "
            "Name another: -P port=5001, or serve.port in config.yaml."
        ) from error


def serve(settings: ServeSettings) -> None:
    """Answer until SIGTERM, Ctrl-C or the end of `mlflow run`; then finish what was accepted, and return."""
    os.environ[HANDED_OVER] = settings.model_dump_json()
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        interrupt_on_signals()
        if STARTED_BY_MLFLOW in os.environ:
            end_with(os.getppid())
        expect_free(settings.host, settings.port)
        if settings.workers > 1:
            _share(settings, stack)
            print_welcome(settings)
        _listen(settings)


def print_welcome(settings: ServeSettings) -> None:
    """Print the lines for people, once nothing is left that ends the start with an error."""
    print(welcome(settings, bool(key_from_environment())), file=sys.stderr, flush=True)


def welcome(settings: ServeSettings, with_key: bool) -> str:
    """Return what a person wants to know of a scorer that starts; the lines of JSON follow."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    model, example = f"models:/{settings.model_name}@{settings.alias}", "serving_input_example.json"
    key = f' -H "Authorization: Bearer ${KEY}"' if with_key else ""
    return (
        f"scorer of {model} on {url}\n"
        f"  docs  {url}/docs\n"
        f"  try   mlflow artifacts download --artifact-uri {quote(f'{model}/{example}')} --dst-path outputs\n"
        f"        curl {url}/invocations -H 'Content-Type: application/json'{key} -d @outputs/{example}\n"
        f"  stop  Ctrl-C"
    )


def _share(settings: ServeSettings, stack: ExitStack) -> None:
    from prediction_log.writer import PredictionLog

    # what is wrong with the log is said once, here, and not by each worker
    PredictionLog.open(settings.log_url, settings.log, must_answer=False).close()
    os.environ[METRICS_FOLDER] = stack.enter_context(tempfile.TemporaryDirectory(prefix="scorer-metrics-"))
    os.environ[SUPERVISOR] = str(os.getpid())


def _listen(settings: ServeSettings) -> None:
    if settings.workers == 1:
        # collecting garbage takes a tenth of the time of the imports; model_follower.py turns it on again
        gc.disable()
    import uvicorn  # not needed for --help and a mistyped setting

    if interrupted.is_set():
        raise KeyboardInterrupt
    uvicorn.run(
        "serve.http.app:create",
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

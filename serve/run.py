"""serve: the registered champion -> an HTTP server that answers with its predictions and records each of them."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from typing import NoReturn

from serve.record.settings import DEFAULT_URL, URL_VARIABLE
from serve.settings import HANDED_OVER, ServeSettings, settings_from
from stepkit.errors import StepError

APPLICATION = "serve.app:create"
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
SECONDS_TO_START = 60


def parser() -> argparse.ArgumentParser:
    """One flag for each setting, with its default as text: what is typed is checked in one place, the settings."""
    parser = argparse.ArgumentParser(prog="serve", description=__doc__)
    for name, field in ServeSettings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        parser.add_argument(f"--{name}", default=_as_text(default), help=f"{field.description} ({_as_text(default)})")
    return parser


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(value)
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def main(argv: list[str] | None = None) -> None:
    try:
        settings = settings_from(_with_log(vars(parser().parse_args(argv))))
    except StepError as error:
        _leave(error, 2)
    try:
        serve(settings)
    except StepError as error:
        _leave(error, 1)


def _leave(error: StepError, status: int) -> NoReturn:
    print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    sys.exit(status)


def _with_log(typed: dict[str, str]) -> dict[str, str]:
    """Fill in the log's address, which may hold a password and so may come from the environment.

    It leaves the environment: there it would make the model itself write a log, as under MLflow's own server.
    """
    from_environment = os.environ.pop(URL_VARIABLE, "")
    return {**typed, "log_url": typed["log_url"] or from_environment or DEFAULT_URL}


def serve(settings: ServeSettings) -> None:
    """Answer until SIGTERM or Ctrl-C; then finish what was accepted, write the record, and return."""
    import uvicorn  # not needed for --help and a mistyped setting

    from serve.record.log import PredictionLog

    os.environ[HANDED_OVER] = settings.model_dump_json()
    # uvicorn raises a signal again after its graceful stop, which would make the exit status that of a crash
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    with ExitStack() as stack:
        if settings.workers > 1:
            # what is wrong with the log is said once, here, and not by each worker
            PredictionLog.open(settings.log_url, settings.log, must_answer=False).close()
            os.environ[METRICS_FOLDER] = stack.enter_context(tempfile.TemporaryDirectory(prefix="scorer-metrics-"))
        uvicorn.run(
            APPLICATION,
            factory=True,
            host=settings.host,
            port=settings.port,
            workers=settings.workers,
            loop="uvloop",
            http="httptools",
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=settings.stop_seconds,
            timeout_worker_healthcheck=SECONDS_TO_START,
        )


if __name__ == "__main__":
    main()

"""The root project: run the steps of pipeline/steps.py as config.yaml says."""

import gc
import os
import sys
from contextlib import suppress

from pipeline.launch.forkserver import pause_gc, stop_forkserver, warm_up
from pipeline.usage import format_usage, wants_help

if __name__ == "__main__":
    if wants_help(sys.argv[1:]):
        print(format_usage())
        sys.exit(0)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # what is trained here is nobody's business
    # first of all, so that libraries load in the background while the configuration is read
    with suppress(OSError):  # no room for its socket: the pipeline meets the same, and reports it
        warm_up()

    try:
        with pause_gc():
            from pipeline.cli import main
    except KeyboardInterrupt:
        sys.exit(130)  # nothing was begun yet

    try:
        status = main()
    finally:  # every step has ended; Hydra leaves by an exception of its own after --version and its like
        stop_forkserver()
    gc.freeze()  # the process ends, and with it all memory; Python would look through it for a last time
    sys.exit(status)

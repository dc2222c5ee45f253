"""Root project: runs the steps of pipeline/steps.py as config.yaml configures them."""

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
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # do not send usage data to third parties
    # The libraries load in the background while the configuration is read.
    with suppress(OSError):  # The disk has no space for a socket. The pipeline reports this.
        warm_up()

    try:
        with pause_gc():
            from pipeline.cli import main
    except KeyboardInterrupt:
        sys.exit(130)  # No step has started yet.

    try:
        status = main()
    finally:  # Hydra exits by an exception of its own after --version and similar flags.
        stop_forkserver()
    gc.freeze()  # Skip the last garbage collection: the process is about to exit and frees all its memory.
    sys.exit(status)

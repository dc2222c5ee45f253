"""The root project: run the steps of pipeline/steps.py as config.yaml says."""

import sys

from pipeline.warm import warm_up

if __name__ == "__main__":
    # first of all, so that libraries load in the background while the configuration is read
    warm_up()

    from pipeline.cli import main

    sys.exit(main())

"""report: write report.html and report.md of a finished pipeline run, from the data on the tracking server.

Run it as `make report run=RUN_ID`, or `mlflow run . -e report -P run_id=RUN_ID`.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME

from pipeline.report.at_end import describe_place
from pipeline.report.gather import find_newest_pipeline
from pipeline.report.publish import publish, render_report, write_files
from pipeline.tags import HTML_ARTIFACT
from stepkit import paths
from stepkit.errors import UpstreamMissing
from stepkit.step.exit import exit_on_error
from stepkit.step.flags import Parser
from stepkit.store import tracking


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    flags = Parser(prog="report", description=__doc__)
    flags.add_argument("--run_id", default="", help="pipeline run or sweep; empty: the newest finished pipeline run")
    flags.add_argument("--base_run_id", default="", help="second pipeline run to compare the metrics with")
    flags.add_argument("--output", default="", help="folder for the report; empty: log it to the run")
    return flags


def get_newest_run_id(client: MlflowClient) -> str:
    """Return the id of the newest finished pipeline run of any experiment.

    Raises:
        UpstreamMissing: no pipeline run has finished.
    """
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    run = find_newest_pipeline(client, experiments, "attributes.status != 'RUNNING'")
    if run is None:
        raise UpstreamMissing("tracking server: no finished pipeline run. Start one: make run")
    return str(run.info.run_id)


def make_report(run_id: str, base_run_id: str, output: str) -> str:
    """Write the report to a folder, or log it to the run, and return its location.

    Raises:
        StepError: the run does not exist or is not a pipeline run, or the tracking server is unreachable.
    """
    tracking.connect()
    client = MlflowClient()
    if command_run_id := os.environ.get("MLFLOW_RUN_ID"):  # `mlflow run` creates a run for each command
        client.set_tag(command_run_id, MLFLOW_RUN_NAME, "report")
    run_id = run_id or get_newest_run_id(client)
    if output:
        _, files = render_report(client, run_id, base_run_id)
        return " and ".join(map(str, write_files(files, Path(paths.resolve_path(output)))))
    return describe_place(client, publish(client, run_id, base_run_id), HTML_ARTIFACT)


def main(argv: list[str] | None = None) -> None:
    """Print the location of the report, or one error message."""
    args = make_parser().parse_args(argv)
    with exit_on_error():
        print(make_report(args.run_id, args.base_run_id, args.output))


if __name__ == "__main__":
    main()

"""report: a finished pipeline run -> report.html and report.md, made again from what the tracking server holds.

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
    flags = Parser(prog="report", description=__doc__)
    flags.add_argument(
        "--run_id", default="", help="the pipeline's run, or a sweep's; empty: the newest that has ended"
    )
    flags.add_argument("--base_run_id", default="", help="another pipeline's run, to show its metrics beside")
    flags.add_argument("--output", default="", help="folder to write to; empty: the report is logged on the run")
    return flags


def get_newest_run_id(client: MlflowClient) -> str:
    """Return the id of the pipeline run that ended last, in any experiment.

    Raises:
        UpstreamMissing: there is none.
    """
    experiments = [one.experiment_id for one in client.search_experiments()]
    run = find_newest_pipeline(client, experiments, "attributes.status != 'RUNNING'")
    if run is None:
        raise UpstreamMissing("no pipeline has run yet on this tracking server. Run one first: make run")
    return str(run.info.run_id)


def make_report(run_id: str, base_run_id: str, output: str) -> str:
    """Make the report; return where it is.

    Raises:
        StepError: no such run, one that is not a pipeline's, or the tracking server does not answer.
    """
    tracking.connect()
    client = MlflowClient()
    if own := os.environ.get("MLFLOW_RUN_ID"):  # `mlflow run` opens a run for every command
        client.set_tag(own, MLFLOW_RUN_NAME, "report")
    wanted = run_id or get_newest_run_id(client)
    if output:
        _, files = render_report(client, wanted, base_run_id)
        return " and ".join(map(str, write_files(files, Path(paths.resolve_path(output)))))
    return describe_place(client, publish(client, wanted, base_run_id), HTML_ARTIFACT)


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    with exit_on_error():
        print(make_report(args.run_id, args.base_run_id, args.output))


if __name__ == "__main__":
    main()

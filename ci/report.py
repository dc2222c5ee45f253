"""report: run the pipeline as CI does -> summary.json, comment.md, the report's pages, and the job's summary page."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mlflow import MlflowClient

from ci.collect import collect, fetch_report, newest_pipeline
from ci.errors import ReportFailed
from ci.post import read_form
from ci.render import Place, render
from ci.summary import Base, Summary, as_base
from stepkit.paths import ROOT
from stepkit.step.exit import one_message
from stepkit.store import tracking

SUMMARY, COMMENT = "summary.json", "comment.md"
NO_COMMIT = "0" * 40


def run_pipeline(experiment: str, options: str) -> int:
    """Run the pipeline in the foreground, as a person would; return its exit status."""
    command = [sys.executable, "main.py", "--hydra_options", options]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "MLFLOW_EXPERIMENT_NAME": experiment}).returncode


def commit_of_here() -> str:
    """Return the commit that is checked out, "" outside of a git repository."""
    said = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return said.stdout.strip() if said.returncode == 0 else ""


def page_of_this_run() -> str:
    """Return the address of the workflow's run that this is part of; what a laptop has instead is the folder."""
    parts = [os.environ.get(name) for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")]
    return "{}/{}/actions/runs/{}".format(*parts) if all(parts) else "report.html"


def write(summary: Summary, folder: Path) -> None:
    """Write the summary for machines and the comment for people; append the latter to the job's summary page."""
    body = render(summary, Place(summary.commit or NO_COMMIT, page_of_this_run()))
    (folder / SUMMARY).write_text(summary.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / COMMENT).write_text(body, encoding="utf-8")
    if page := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(page).open("a", encoding="utf-8") as file:
            file.write(body)


def parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--options", default="", help="Hydra's overrides, as for mlflow run: data=uci ...")
    flags.add_argument("--experiment", default="ci", help="experiment of the pipeline")
    flags.add_argument("--output", type=Path, default=Path("outputs/ci"), help="folder for what is written")
    flags.add_argument("--base", type=Path, default=Path("outputs/ci-main/base.json"), help="what main found, if there")
    flags.add_argument("--keep_as_base", action="store_true", help="this is main: write --base anew, if it succeeded")
    return flags


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    folder = ROOT / args.output
    folder.mkdir(parents=True, exist_ok=True)
    began = time.time_ns() // 1_000_000
    tracking.connect()
    status = run_pipeline(args.experiment, args.options)
    client = MlflowClient()
    run = newest_pipeline(client, args.experiment, began)
    if run is None:
        print(f"no pipeline run was opened in experiment {args.experiment}; its own words stand above", file=sys.stderr)
        return status or 1
    base = ROOT / args.base
    try:
        known = read_form(Base, base) if base.is_file() else None
    except ReportFailed as error:  # left by an older version: a report without a comparison beats none
        print(f"main's figures are left out: {error}", file=sys.stderr)
        known = None
    with tempfile.TemporaryDirectory(prefix="ci-report-") as downloads:
        summary = collect(client, run, commit_of_here(), known, Path(downloads))
    write(summary, folder)
    pages = fetch_report(client, run, folder)
    if args.keep_as_base and summary.succeeded:
        base.parent.mkdir(parents=True, exist_ok=True)
        base.write_text(as_base(summary).model_dump_json(indent=2) + "\n", encoding="utf-8")
    print(f"written to {args.output}: {', '.join([SUMMARY, COMMENT, *pages])}")
    return status


if __name__ == "__main__":
    with one_message():
        sys.exit(main())

"""report: run the pipeline as CI does, and write summary.json, comment.md, the report and the job's summary page."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from mlflow import MlflowClient

from ci.comment import Place, render_comment
from ci.summary import ReportFailed, make_summary, read_form, to_json
from pipeline.report.gather import Base, PipelineResult, find_newest_pipeline, gather, make_base
from pipeline.report.page import build_page
from pipeline.report.publish import render_files, write_files
from stepkit.paths import ROOT
from stepkit.step.exit import exit_on_error
from stepkit.store import tracking

SUMMARY, COMMENT = "summary.json", "comment.md"
NO_COMMIT = "0" * 40


def run_pipeline(experiment: str, options: str) -> int:
    """Run the pipeline in the foreground, and return its exit status."""
    command = [sys.executable, "main.py", "--hydra_options", options]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "MLFLOW_EXPERIMENT_NAME": experiment}).returncode


def read_commit() -> str:
    """Return the commit that is checked out, or zeros outside of a git repository."""
    result = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return result.stdout.strip() if result.returncode == 0 else NO_COMMIT


def get_run_url() -> str:
    """Return the URL of the workflow run; outside of CI, the report next to the comment."""
    parts = [os.environ.get(name) for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")]
    return "{}/{}/actions/runs/{}".format(*parts) if all(parts) else "report.html"


def add_base(result: PipelineResult, base: Base | None) -> PipelineResult:
    """Return a run with the results of main as its base, or with the reason why they are missing."""
    data = result.run.data.params.get("data", "unknown")
    if base is not None and base.data == data:
        return replace(result, base=base)
    reason = f"the last run of main used other data ({base.data})" if base else "no run of main is in the cache"
    return replace(result, lost=[*result.lost, f"Not compared with main: {reason}."])


def make_main_base(result: PipelineResult, commit: str) -> Base | None:
    """Return the results of a run of main, for comparison with runs of branches; None without an evaluation."""
    if result.evaluation is None:
        return None
    return make_base(result.run, f"main {commit[:10]}", result.runs.get("evaluate"), result.evaluation)


def make_files(result: PipelineResult, commit: str) -> dict[str, str]:
    """Return the summary, the comment and the pages of a report, by file name."""
    page = build_page(result)
    summary = make_summary(page)
    body = render_comment(summary, Place(commit, get_run_url()))
    return {SUMMARY: to_json(summary), COMMENT: body, **render_files(page)}


def read_base(file: Path) -> Base | None:
    """Return the results of main, or None if the file is missing or unreadable."""
    try:
        return read_form(Base, file) if file.is_file() else None
    except ReportFailed as error:  # Older versions wrote another format. A report without a comparison is still useful.
        print(f"not compared with main: {error}", file=sys.stderr)
    return None


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--options", default="", help="Hydra overrides, as for mlflow run: data=uci ...")
    flags.add_argument("--experiment", default="ci", help="experiment of the pipeline")
    flags.add_argument("--output", type=Path, default=Path("outputs/ci"), help="folder for the files")
    flags.add_argument(
        "--base",
        type=Path,
        default=Path("outputs/ci-main/base.json"),
        help="results of main to compare with, if the file exists",
    )
    flags.add_argument(
        "--keep_as_base", action="store_true", help="replace --base if the run succeeds; for runs of main"
    )
    return flags


def main(argv: list[str] | None = None) -> int:
    """Run the pipeline, write its report, and return the exit status of the pipeline."""
    args = make_parser().parse_args(argv)
    began = time.time_ns() // 1_000_000
    tracking.connect()
    status = run_pipeline(args.experiment, args.options)
    client = MlflowClient()
    experiment = client.get_experiment_by_name(args.experiment)
    experiments = [experiment.experiment_id] if experiment else []
    run = find_newest_pipeline(client, experiments, f"attributes.start_time >= {began}")
    if run is None:
        print(f"experiment {args.experiment}: the pipeline created no run. Read its output above.", file=sys.stderr)
        return status or 1
    with tempfile.TemporaryDirectory(prefix="ci-report-") as downloads:
        result = gather(client, run.info.run_id, Path(downloads))
    commit, base = read_commit(), ROOT / args.base
    files = make_files(add_base(result, read_base(base)), commit)
    write_files(files, ROOT / args.output)
    if page := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(page).open("a", encoding="utf-8") as file:
            file.write(files[COMMENT])
    if args.keep_as_base and run.info.status == "FINISHED" and (main_base := make_main_base(result, commit)):
        write_files({base.name: to_json(main_base)}, base.parent)
    print(f"{args.output}: wrote {', '.join(files)}")
    return status


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())

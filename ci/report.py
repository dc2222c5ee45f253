"""report: run the pipeline as CI does -> summary.json, comment.md, the report's pages, and the job's summary page."""

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
    """Run the pipeline in the foreground, as a user would; return its exit status."""
    command = [sys.executable, "main.py", "--hydra_options", options]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "MLFLOW_EXPERIMENT_NAME": experiment}).returncode


def read_commit() -> str:
    """Return the commit that is checked out; zeros outside of a git repository."""
    ended = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return ended.stdout.strip() if ended.returncode == 0 else NO_COMMIT


def get_run_url() -> str:
    """Return the address of the workflow's run that this is part of; on a laptop, the file next to the comment."""
    parts = [os.environ.get(name) for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")]
    return "{}/{}/actions/runs/{}".format(*parts) if all(parts) else "report.html"


def add_base(found: PipelineResult, base: Base | None) -> PipelineResult:
    """Return a run with main's results to compare with, or with a sentence why there are none."""
    data = found.run.data.params.get("data", "unknown")
    if base is not None and base.data == data:
        return replace(found, base=base)
    why = f"main's last run is on other data ({base.data})" if base else "no run of main is in the cache"
    return replace(found, lost=[*found.lost, f"nothing to compare with: {why}."])


def make_main_base(found: PipelineResult, commit: str) -> Base | None:
    """Return what a run of main leaves for the runs of branches to be compared with."""
    if found.evaluation is None:
        return None
    return make_base(found.run, f"main {commit[:10]}", found.runs.get("evaluate"), found.evaluation)


def make_files(found: PipelineResult, commit: str) -> dict[str, str]:
    """Return the report for machines and for people by the names of its files."""
    page = build_page(found)
    summary = make_summary(page)
    body = render_comment(summary, Place(commit, get_run_url()))
    return {SUMMARY: to_json(summary), COMMENT: body, **render_files(page)}


def read_base(file: Path) -> Base | None:
    try:
        return read_form(Base, file) if file.is_file() else None
    except ReportFailed as error:  # left by an older version: a report without a comparison beats none
        print(f"main's figures are left out: {error}", file=sys.stderr)
    return None


def make_parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--options", default="", help="Hydra's overrides, as for mlflow run: data=uci ...")
    flags.add_argument("--experiment", default="ci", help="experiment of the pipeline")
    flags.add_argument("--output", type=Path, default=Path("outputs/ci"), help="folder for what is written")
    flags.add_argument("--base", type=Path, default=Path("outputs/ci-main/base.json"), help="what main found, if there")
    flags.add_argument("--keep_as_base", action="store_true", help="this is main: write --base again, if it succeeded")
    return flags


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    began = time.time_ns() // 1_000_000
    tracking.connect()
    status = run_pipeline(args.experiment, args.options)
    client = MlflowClient()
    experiment = client.get_experiment_by_name(args.experiment)
    experiments = [experiment.experiment_id] if experiment else []
    run = find_newest_pipeline(client, experiments, f"attributes.start_time >= {began}")
    if run is None:
        print(f"no pipeline run was opened in experiment {args.experiment}; its own words stand above", file=sys.stderr)
        return status or 1
    with tempfile.TemporaryDirectory(prefix="ci-report-") as downloads:
        found = gather(client, run.info.run_id, Path(downloads))
    commit, base = read_commit(), ROOT / args.base
    files = make_files(add_base(found, read_base(base)), commit)
    write_files(files, ROOT / args.output)
    if page := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(page).open("a", encoding="utf-8") as file:
            file.write(files[COMMENT])
    if args.keep_as_base and run.info.status == "FINISHED" and (ours := make_main_base(found, commit)):
        write_files({base.name: to_json(ours)}, base.parent)
    print(f"written to {args.output}: {', '.join(files)}")
    return status


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())

"""Make the report of a pipeline run and put it on the run, or into a folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mlflow import MlflowClient

from pipeline.report.gather import gather
from pipeline.report.page import Page, build_page
from pipeline.report.render import render_html, render_markdown
from pipeline.tags import HTML_ARTIFACT, MARKDOWN_ARTIFACT


def render_report(client: MlflowClient, run_id: str, base_run_id: str = "") -> tuple[str, dict[str, str]]:
    """Return the run that the report is about, and the report by the names of its two files.

    Raises:
        BadParameter: `run_id` or `base_run_id` is not the run of a pipeline.
    """
    with tempfile.TemporaryDirectory(prefix="report-") as folder:
        found = gather(client, run_id, Path(folder), base_run_id)
    return found.run.info.run_id, render_files(build_page(found))


def render_files(page: Page) -> dict[str, str]:
    return {HTML_ARTIFACT: render_html(page), MARKDOWN_ARTIFACT: render_markdown(page)}


def publish(client: MlflowClient, run_id: str, base_run_id: str = "") -> str:
    """Make a run's report and log it as artifacts of the run; return that run (of a sweep: of its best job)."""
    about, files = render_report(client, run_id, base_run_id)
    for name, text in files.items():
        client.log_text(about, text, name)
    return about


def write_files(files: dict[str, str], folder: Path) -> list[Path]:
    """Write texts to a folder by their names; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in files]

"""Rendering of a report, and its two destinations: the pipeline run or a folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mlflow import MlflowClient

from pipeline.report.gather import gather
from pipeline.report.page import Page, build_page
from pipeline.report.render import render_html, render_markdown
from pipeline.tags import HTML_ARTIFACT, MARKDOWN_ARTIFACT


def render_report(client: MlflowClient, run_id: str, base_run_id: str = "") -> tuple[str, dict[str, str]]:
    """Return the id of the pipeline run, and the texts of its report by file name.

    Raises:
        BadParameter: `run_id` or `base_run_id` is not a pipeline run.
    """
    with tempfile.TemporaryDirectory(prefix="report-") as folder:
        result = gather(client, run_id, Path(folder), base_run_id)
    return result.run.info.run_id, render_files(build_page(result))


def render_files(page: Page) -> dict[str, str]:
    """Return the HTML and the Markdown of a report by file name."""
    return {HTML_ARTIFACT: render_html(page), MARKDOWN_ARTIFACT: render_markdown(page)}


def publish(client: MlflowClient, run_id: str, base_run_id: str = "") -> str:
    """Log the report of a run to the run, or of a sweep to its best job. Return the id of that run."""
    target_id, files = render_report(client, run_id, base_run_id)
    for name, text in files.items():
        client.log_text(target_id, text, name)
    return target_id


def write_files(files: dict[str, str], folder: Path) -> list[Path]:
    """Write texts by file name to a folder, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in files]

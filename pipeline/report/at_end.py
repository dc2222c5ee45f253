"""The report at a pipeline's end: prepared while the steps run; its failure never fails the pipeline."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from threading import Thread

from mlflow import MlflowClient

from pipeline.tags import HTML_ARTIFACT
from stepkit.paths import artifact_path
from stepkit.secret_urls import shown_in
from stepkit.step.exit import as_step_error


def prepare() -> None:
    """Load what makes reports, in the background while steps run."""
    Thread(target=_load, name="report", daemon=True).start()


def _load() -> None:
    with suppress(Exception):  # it is raised again, and reported, when the report is made
        from pipeline.report.render import prepared

        prepared()


def published(client: MlflowClient, run_id: str) -> str:
    """Make the report of a finished run and log it there; return where it is, or why it could not be made."""
    try:
        from pipeline.report.publish import publish

        publish(client, run_id)
        return place_of(client, run_id, HTML_ARTIFACT)
    except Exception as error:  # the pipeline has done its work all the same
        problem = as_step_error(error) or error
        return f"not made ({type(problem).__name__}: {shown_in(str(problem))}); try again: make report run={run_id}"


def place_of(client: MlflowClient, run_id: str, name: str) -> str:
    """Return the file, if the artifacts are on this machine; else the artifact's name and its run."""
    folder = artifact_path(client.get_run(run_id).info.artifact_uri)
    if folder is None:
        return f"{name} of run {run_id}"
    file = folder / name
    return str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)

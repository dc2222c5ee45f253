"""The report at a pipeline's end; its failure never fails the pipeline."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient

from pipeline.tags import HTML_ARTIFACT
from stepkit.paths import to_artifact_path
from stepkit.secret_urls import hide_secrets_in_text
from stepkit.step.exit import to_step_error


def publish_report(client: MlflowClient, run_id: str) -> str:
    """Make the report of a finished run and log it there; return where it is, or why it could not be made."""
    try:
        # imported late: a pipeline begins its steps sooner without it
        from pipeline.report.publish import publish

        publish(client, run_id)
        return describe_place(client, run_id, HTML_ARTIFACT)
    except Exception as error:  # the pipeline has done its work all the same
        problem = to_step_error(error) or error
        return f"not made ({type(problem).__name__}: {hide_secrets_in_text(str(problem))}); try again: make report run={run_id}"


def describe_place(client: MlflowClient, run_id: str, name: str) -> str:
    """Return the file, if the artifacts are on this machine; else the artifact's name and its run."""
    folder = to_artifact_path(client.get_run(run_id).info.artifact_uri)
    if folder is None:
        return f"{name} of run {run_id}"
    file = folder / name
    return str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)

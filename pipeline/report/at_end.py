"""Report at the end of a pipeline run. An error here never fails the run."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient

from pipeline.tags import HTML_ARTIFACT
from stepkit.paths import to_artifact_path
from stepkit.secret_urls import hide_secrets_in_text
from stepkit.step.exit import to_step_error


def publish_report(client: MlflowClient, run_id: str) -> str:
    """Log the report of a finished run to the run, and return its location or the reason why it is missing."""
    try:
        # A late import: the steps of a pipeline run start sooner.
        from pipeline.report.publish import publish

        publish(client, run_id)
        return describe_place(client, run_id, HTML_ARTIFACT)
    except Exception as error:  # the pipeline run itself has finished
        problem = to_step_error(error) or error
        return (
            f"failed ({type(problem).__name__}: {hide_secrets_in_text(str(problem))}). Retry: make report run={run_id}"
        )


def describe_place(client: MlflowClient, run_id: str, name: str) -> str:
    """Return the path of an artifact on this machine, or its name and run if it is elsewhere."""
    folder = to_artifact_path(client.get_run(run_id).info.artifact_uri)
    if folder is None:
        return f"{name} of run {run_id}"
    file = folder / name
    return str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)

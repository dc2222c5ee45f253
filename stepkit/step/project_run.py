"""The run that `mlflow run` opens for a command that is not a step."""

from __future__ import annotations

import os
from collections.abc import Mapping


def log_to_run(metrics: Mapping[str, float], **tags: str) -> None:
    """Log to the run that `mlflow run` started; without one, as with `python FILE`, do nothing."""
    if "MLFLOW_RUN_ID" not in os.environ:
        return
    import mlflow  # the import takes seconds, and only this branch needs it

    with mlflow.start_run():
        mlflow.log_metrics(dict(metrics))
        mlflow.set_tags(tags)

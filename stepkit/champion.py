"""The registered model's versions by alias: champion, challenger and previous."""

from __future__ import annotations

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode

from stepkit.lineage import data_set_of

CHAMPION = "champion"
CHALLENGER = "challenger"
PREVIOUS = "previous"

WITHDRAWN = "withdrawn"
"""Tag of a version: a person took it back, or put another in its place; no pipeline makes it champion again."""

_NONE_YET = {ErrorCode.Name(RESOURCE_DOES_NOT_EXIST), ErrorCode.Name(INVALID_PARAMETER_VALUE)}


def champion_of(client: MlflowClient, model_name: str) -> ModelVersion | None:
    """Return the version with the alias `champion`, or None if there is no such model or alias."""
    try:
        return client.get_model_version_by_alias(model_name, CHAMPION)
    except MlflowException as error:
        if error.error_code in _NONE_YET:
            return None
        raise


def why_not_comparable(client: MlflowClient, champion: ModelVersion | None, run_id: str) -> str:
    """Return, in words, why there is no champion to compare with, or "" if there is one.

    Args:
        run_id: a run that holds the data at hand; a champion of another data set is no measure for them.
    """
    if champion is None:
        return "there is no champion yet"
    theirs, ours = data_set_of(client, str(champion.run_id)), data_set_of(client, run_id)
    if theirs != ours:
        return f"the champion (version {champion.version}) is of another data set ({theirs}, not {ours})"
    return ""

"""The registered model's versions by alias: champion, challenger, previous."""

from __future__ import annotations

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode

CHAMPION = "champion"
CHALLENGER = "challenger"

_NONE_YET = {ErrorCode.Name(RESOURCE_DOES_NOT_EXIST), ErrorCode.Name(INVALID_PARAMETER_VALUE)}


def champion_of(client: MlflowClient, model_name: str) -> ModelVersion | None:
    """Return the version with the alias `champion`, or None if there is no such model or alias."""
    try:
        return client.get_model_version_by_alias(model_name, CHAMPION)
    except MlflowException as error:
        if error.error_code in _NONE_YET:
            return None
        raise

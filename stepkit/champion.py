"""The registered model's versions by alias: champion, challenger and previous."""

from __future__ import annotations

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode

from stepkit.lineage import data_set_of
from stepkit.tracking import is_refused

CHAMPION = "champion"
CHALLENGER = "challenger"
PREVIOUS = "previous"

WITHDRAWN = "withdrawn"
"""Tag of a version: a person took it back, or put another in its place; no pipeline makes it champion again."""

_NONE_YET = {ErrorCode.Name(RESOURCE_DOES_NOT_EXIST), ErrorCode.Name(INVALID_PARAMETER_VALUE)}


def champion_of(client: MlflowClient, model_name: str) -> ModelVersion | None:
    """Return the version with the alias `champion`, or None if there is no such model or alias."""
    return version_by_alias(client, model_name, CHAMPION)


def version_by_alias(client: MlflowClient, model_name: str, alias: str) -> ModelVersion | None:
    """Return the version with an alias, or None if there is no such model or alias.

    Raises:
        MlflowException: the registry does not answer, or refuses this account.
    """
    try:
        return client.get_model_version_by_alias(model_name, alias)
    except MlflowException as error:
        if error.error_code in _NONE_YET or (is_refused(error) and not _is_known(client, model_name)):
            return None
        raise


def _is_known(client: MlflowClient, model_name: str) -> bool:
    """Whether there is a model of this name.

    Asked for the alias of a model that is not there, MLflow's server with accounts says "permission denied" to everyone
    but an admin; asked for the model it gives the true answer.
    """
    try:
        client.get_registered_model(model_name)
    except MlflowException as error:
        return error.error_code not in _NONE_YET
    return True


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

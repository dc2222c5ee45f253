"""The registered model's versions by alias: champion, challenger and previous."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from stepkit.store.lineage import DataSet, find_data_set, read_data_set
from stepkit.store.tracking import handle_missing, is_refused

CHAMPION = "champion"
CHALLENGER = "challenger"
PREVIOUS = "previous"

WITHDRAWN = "withdrawn"
"""Tag of a version: a person took it back, or put another in its place; no pipeline makes it champion again."""

HISTORY = "champion_history"
"""Tag of a version: when it became champion or was withdrawn, by whom and why; a line for each time."""

THE_GATE = "the gate"
_BY_THE_GATE = re.compile(rf"UTC: champion(?: instead of version \d+)?, by {THE_GATE}: .*\Z")
"""The last line in the history of a champion that the gate chose."""

_NONE_YET = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def find_champion(client: MlflowClient, model_name: str) -> ModelVersion | None:
    """Return the version with the alias `champion`, or None if there is no such model or alias."""
    return find_version_by_alias(client, model_name, CHAMPION)


def find_version_by_alias(client: MlflowClient, model_name: str, alias: str) -> ModelVersion | None:
    """Return the version with an alias, None without such a model or alias; raise MlflowException if unknown."""
    try:
        return client.get_model_version_by_alias(model_name, alias)
    except MlflowException as error:
        # for the alias of a missing model, MLflow's server with accounts refuses everyone but an admin
        if error.error_code in _NONE_YET or (is_refused(error) and not _has_model(client, model_name)):
            return None
        raise


def _has_model(client: MlflowClient, model_name: str) -> bool:
    try:
        return bool(client.get_registered_model(model_name))
    except MlflowException as error:
        return error.error_code not in _NONE_YET


def find_training_run(version: ModelVersion) -> str:
    """Return the run that trained a version, "" if unknown; for files registered by hand, as their MLmodel notes it."""
    if version.run_id:
        return str(version.run_id)
    from mlflow.models import get_model_info  # takes its time to load, and most versions have a run

    with handle_missing(None, Exception):  # a damaged file: each library raises its own
        return str(get_model_info(f"models:/{version.name}/{version.version}").run_id or "")
    return ""


def find_version_data_set(client: MlflowClient, version: ModelVersion) -> DataSet:
    """Return the data set of a version: the one that its tags name, else that of its training run."""
    tagged = read_data_set(version.tags)
    return tagged if tagged.name else find_data_set(client, find_training_run(version))


@dataclass(frozen=True)
class OtherDataSet:
    """A champion of another data set than the model's, in words; why it may give way all the same, "" if it stays."""

    words: str
    why_replaceable: str


def find_other_data_set(
    client: MlflowClient, champion: ModelVersion, ours: DataSet, asked_for: bool = False
) -> OtherDataSet | None:
    """Return how the champion's data set differs from `ours`; None if it does not, or if one of both is unknown.

    Args:
        asked_for: the caller wants to replace a champion of another data set.
    """
    theirs = find_version_data_set(client, champion)
    if not (theirs.name and ours.name) or theirs.name == ours.name:
        return None
    why = "register.replace_data_set is true" if asked_for else ""
    if not why and theirs.synthetic and not is_promoted_by_hand(champion):
        why = "no row of it is real"
    words = f"the champion (version {champion.version}) is of another data set ({theirs.name}, not {ours.name})"
    return OtherDataSet(words, why)


def is_promoted_by_hand(champion: ModelVersion) -> bool:
    """Return whether a person made it champion: its history does not end with a move by the gate."""
    return not _BY_THE_GATE.search(champion.tags.get(HISTORY, ""))

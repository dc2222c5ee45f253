"""Versions of the registered model by alias: champion, challenger and previous."""

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
"""Tag of a version that someone withdrew or replaced by hand; a pipeline never promotes it again."""

REASON_TAG = "gate."
"""Prefix of a version's tags with the reasons of failed gate rules, one tag per rule."""

HISTORY = "champion_history"
"""Tag of a version with one line for each promotion or withdrawal: time, actor and reason."""

THE_GATE = "the gate"
_BY_THE_GATE = re.compile(rf"UTC: champion(?: instead of version \d+)?, by {THE_GATE}: .*\Z")
"""Last line in the history of a champion that the gate promoted."""

_NONE_YET = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def find_champion(client: MlflowClient, model_name: str) -> ModelVersion | None:
    """Return the version with the alias `champion`, or None if the model or the alias does not exist."""
    return find_version_by_alias(client, model_name, CHAMPION)


def find_version_by_alias(client: MlflowClient, model_name: str, alias: str) -> ModelVersion | None:
    """Return the version with an alias, or None if the model or the alias does not exist.

    Raises:
        MlflowException: the registry could not be read.
    """
    try:
        return client.get_model_version_by_alias(model_name, alias)
    except MlflowException as error:
        # For the alias of a missing model, an MLflow server with accounts refuses everyone except an admin.
        if error.error_code in _NONE_YET or (is_refused(error) and not _has_model(client, model_name)):
            return None
        raise


def _has_model(client: MlflowClient, model_name: str) -> bool:
    try:
        return bool(client.get_registered_model(model_name))
    except MlflowException as error:
        return error.error_code not in _NONE_YET


def find_training_run(version: ModelVersion) -> str:
    """Return the id of the run that trained a version, or "" if unknown.

    For a version without a run, registered by hand from files, the id is read from their MLmodel file.
    """
    if version.run_id:
        return str(version.run_id)
    from mlflow.models import get_model_info  # slow to import, and most versions have a run

    with handle_missing(None, Exception):  # for a damaged file each library raises its own error
        return str(get_model_info(f"models:/{version.name}/{version.version}").run_id or "")
    return ""


def find_version_data_set(client: MlflowClient, version: ModelVersion) -> DataSet:
    """Return the data set in a version's tags, else the data set of its training run."""
    data_set = read_data_set(version.tags)
    return data_set if data_set.name else find_data_set(client, find_training_run(version))


@dataclass(frozen=True)
class OtherDataSet:
    """Difference between the champion's data set and the new model's.

    Attributes:
        words: the difference, in words.
        why_replaceable: the reason why the champion may be replaced all the same; "" if it may not.
    """

    words: str
    why_replaceable: str


def find_other_data_set(
    client: MlflowClient, champion: ModelVersion, ours: DataSet, asked_for: bool = False
) -> OtherDataSet | None:
    """Return the difference between the champion's data set and `ours`, or None if equal or if either is unknown.

    With `asked_for`, a champion of another data set may be replaced.
    """
    data_set = find_version_data_set(client, champion)
    if not (data_set.name and ours.name) or data_set.name == ours.name:
        return None
    why = "register.replace_data_set is true" if asked_for else ""
    if not why and data_set.synthetic and not is_promoted_by_hand(champion):
        why = "its data are synthetic"
    words = f"the champion (version {champion.version}) is of another data set ({data_set.name}, not {ours.name})"
    return OtherDataSet(words, why)


def is_promoted_by_hand(champion: ModelVersion) -> bool:
    """Return whether someone promoted the champion by hand: its history does not end with a line of the gate."""
    return not _BY_THE_GATE.search(champion.tags.get(HISTORY, ""))


def find_overruled_rules(champion: ModelVersion) -> frozenset[str]:
    """Return the gate rules that a user overruled by promoting the champion by hand; none if the gate promoted it."""
    if not is_promoted_by_hand(champion):
        return frozenset()
    return frozenset(tag.removeprefix(REASON_TAG) for tag in champion.tags if tag.startswith(REASON_TAG))

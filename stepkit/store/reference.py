"""What check_data compares with: a pinned artifact or file, or the training data of the current champion."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient

from stepkit.errors import BadParameter, UpstreamMissing
from stepkit.paths import resolve_path
from stepkit.store.champion import find_champion, find_other_data_set, find_training_run
from stepkit.store.lineage import (
    fetch_digest,
    find_data_set,
    find_upstream,
    make_artifact_uri,
    parse_artifact_name,
    parse_run_id,
)

NO_REFERENCE = "none"
"""What stands for an address where nothing is to be compared: a retraining after drift differs, and may."""

WITHOUT_REFERENCE = (
    f"Compare with nothing: data.reference_dataset={NO_REFERENCE}; "
    "or with a table: data.reference_dataset=runs:/ID/NAME."
)
"""The way on where the reference is missing, or where the data differ from it and may."""


def find_reference(client: MlflowClient, sample: str, reference: str, model_name: str) -> tuple[str, str]:
    """Return where the reference is and "", or "" and the reason why there is none.

    Args:
        sample: address of the sample (runs:/ID/NAME).
        reference: an address (runs:/ID/NAME or a path), taken as it is, or a plain name, looked up behind the champion;
            the sample's own name is never a file, whatever lies about in the repository. "none" for no reference.

    Raises:
        BadParameter: an address of another kind, or of nothing.
        UpstreamMissing: the champion was trained without such an artifact, or its lineage cannot be read.
    """
    if reference == NO_REFERENCE:
        return "", "no reference: it was asked for none"
    if reference.startswith("runs:/"):
        return reference, ""
    if reference != parse_artifact_name(sample) and Path(resolve_path(reference)).is_file():
        return resolve_path(reference), ""
    if "://" in reference or Path(reference).is_absolute():
        raise BadParameter(
            f"no reference at '{reference}'. Set data.reference_dataset to an artifact's address (runs:/ID/NAME), or "
            "to the path of a file."
        )
    champion = find_champion(client, model_name)
    if champion is None:
        return "", "no reference: there is no champion yet"
    if other := find_other_data_set(client, champion, find_data_set(client, parse_run_id(sample))):
        return "", f"no reference: {other.words}"
    trained_by = find_training_run(champion)
    holder = find_upstream(client, trained_by, reference)
    if holder is None:
        raise UpstreamMissing(
            f"the champion (version {champion.version}, run {trained_by or 'unknown'}): its training data "
            f"'{reference}' are not in the store. {WITHOUT_REFERENCE}"
        )
    address = make_artifact_uri(holder, reference)
    if fetch_digest(client, address) == fetch_digest(client, sample):
        return "", f"no reference: the champion (version {champion.version}) was trained on this very data"
    return address, ""

"""Reference of check_data: a pinned artifact or file, or the training data of the current champion."""

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
"""Value that switches the comparison off, for example for a retraining after drift."""

WITHOUT_REFERENCE = (
    f"Run without a reference (data.reference_dataset={NO_REFERENCE}), "
    "or with another table (data.reference_dataset=runs:/ID/NAME)."
)
"""Next command if the reference is missing, or if the data differ from it for a good reason."""


def find_reference(client: MlflowClient, sample: str, reference: str, model_name: str) -> tuple[str, str]:
    """Return the URI or path of the reference and "", or "" and the reason for running without one.

    `sample` is an artifact (runs:/ID/NAME). `reference` is "none", an artifact, a file, or the name of an artifact in
    the champion's lineage; the sample's own name never means a file.

    Raises:
        BadParameter: no such file, or a URL of another kind.
        UpstreamMissing: the champion's training data are unknown or were deleted.
    """
    if reference == NO_REFERENCE:
        return "", f"no reference: data.reference_dataset is {NO_REFERENCE}"
    if reference.startswith("runs:/"):
        return reference, ""
    if reference != parse_artifact_name(sample) and Path(resolve_path(reference)).is_file():
        return resolve_path(reference), ""
    if "://" in reference or Path(reference).is_absolute():
        raise BadParameter(
            f"data.reference_dataset: no file '{reference}'. Set it to an artifact (runs:/ID/NAME) or to the path of "
            "an existing file."
        )
    champion = find_champion(client, model_name)
    if champion is None:
        return "", "no reference: no champion yet"
    if difference := find_other_data_set(client, champion, find_data_set(client, parse_run_id(sample))):
        return "", f"no reference: {difference.words}"
    run_id = find_training_run(champion)
    upstream_id = find_upstream(client, run_id, reference)
    if upstream_id is None:
        raise UpstreamMissing(
            f"the champion (version {champion.version}, run {run_id or 'unknown'}): its training data "
            f"'{reference}' are not in the store. {WITHOUT_REFERENCE}"
        )
    uri = make_artifact_uri(upstream_id, reference)
    if fetch_digest(client, uri) != fetch_digest(client, sample):
        return uri, ""
    return "", f"no reference: the champion (version {champion.version}) was trained on the same data"

"""What check_data compares with: a pinned artifact or file, or the training data of the current champion."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient

from stepkit.champion import champion_of, why_not_comparable
from stepkit.errors import BadParameter, UpstreamMissing
from stepkit.lineage import address_of, artifact_of, digest_of, find_upstream, run_of
from stepkit.places import from_root

NO_REFERENCE = "none"
"""What stands for an address where nothing is to be compared: a retraining after drift differs, and may."""


def reference_address(client: MlflowClient, sample: str, reference: str, model_name: str) -> tuple[str, str]:
    """Return where the reference is and "", or "" and the reason why there is none.

    Args:
        sample: address of the sample (runs:/ID/NAME).
        reference: an address (runs:/ID/NAME or a path), taken as it is, or a plain name, looked up behind the champion;
            the sample's own name is never a file, whatever lies about in the repository. "none" for no reference.

    Raises:
        BadParameter: an address of another kind, or of nothing.
        UpstreamMissing: the champion was trained without such an artifact.
    """
    if reference == NO_REFERENCE:
        return "", "no reference: it was asked for none"
    if reference.startswith("runs:/"):
        return reference, ""
    if reference != artifact_of(sample) and Path(from_root(reference)).is_file():
        return from_root(reference), ""
    if "://" in reference or Path(reference).is_absolute():
        raise BadParameter(
            f"no reference at '{reference}'. Set data.reference_dataset to an artifact's address (runs:/ID/NAME), or "
            "to the path of a file."
        )
    champion = champion_of(client, model_name)
    reason = why_not_comparable(client, champion, run_of(sample))
    if champion is None or reason:
        return "", f"no reference: {reason}"
    holder = find_upstream(client, str(champion.run_id), reference)
    if holder is None:
        raise UpstreamMissing(
            f"the champion (version {champion.version}, run {champion.run_id}) was trained without an artifact "
            f"'{reference}'. Pin a reference instead: data.reference_dataset=runs:/ID/NAME."
        )
    address = address_of(holder, reference)
    if digest_of(client, address) == digest_of(client, sample):
        return "", f"no reference: the champion (version {champion.version}) was trained on this very data"
    return address, ""

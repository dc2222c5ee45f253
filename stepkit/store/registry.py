"""The registry: an address of a model -> its name and exact version, asked once."""

from __future__ import annotations

from mlflow import MlflowClient, get_tracking_uri

from stepkit.errors import BadParameter
from stepkit.secret_urls import hide_secrets
from stepkit.store import tracking
from stepkit.store.champion import find_version_by_alias
from stepkit.store.model_address import ADDRESS, ADDRESSES, DEFAULT_ADDRESS, RegisteredVersion


def get_registered_version(address: str) -> RegisteredVersion:
    """Return the version that an address means now; raise BadParameter, MlflowException if the registry is away."""
    found = ADDRESS.fullmatch(address)
    if not found:
        raise BadParameter(
            f"model '{address}' is no address of a registered model. Type {ADDRESSES}, as in -P model={DEFAULT_ADDRESS}"
        )
    # files of a few bytes each: bars for them would hide the one that counts
    tracking.connect()
    client = MlflowClient()
    unknown = BadParameter(
        f"model '{address}' is not in the registry {hide_secrets(get_tracking_uri())}. Type 'make run' to train and "
        "register one, or name another one: -P model=models:/NAME@ALIAS (MLFLOW_TRACKING_URI names the registry)."
    )
    with tracking.handle_missing(lambda _: unknown):
        if found["alias"]:
            version = find_version_by_alias(client, found["name"], found["alias"])
        else:
            version = client.get_model_version(found["name"], found["version"])
    if version is None:
        raise unknown
    source = f"{version.run_id} {version.source}"
    return RegisteredVersion(str(version.name), str(version.version), source, str(version.run_id or ""))

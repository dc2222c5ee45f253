"""Look-up in the registry: the exact version behind the URI of a model."""

from __future__ import annotations

from mlflow import MlflowClient, get_tracking_uri

from stepkit.errors import BadParameter
from stepkit.secret_urls import hide_secrets
from stepkit.settings.model import CALIBRATION, NOT_CALIBRATED
from stepkit.store import tracking
from stepkit.store.champion import find_version_by_alias
from stepkit.store.model_address import ADDRESS, ADDRESSES, DEFAULT_ADDRESS, RegisteredVersion


def get_registered_version(uri: str) -> RegisteredVersion:
    """Return the version that a model URI means now.

    Raises:
        BadParameter: not a URI of a registered model, or no such model, alias or version.
        MlflowException: the registry could not be read.
    """
    parts = ADDRESS.fullmatch(uri)
    if not parts:
        raise BadParameter(
            f"model '{uri}': not a registered model. Use {ADDRESSES}, for example -P model={DEFAULT_ADDRESS}"
        )
    tracking.connect()
    client = MlflowClient()
    unknown = BadParameter(
        f"model '{uri}' is not in the registry {hide_secrets(get_tracking_uri())}. Run 'make run' to train and "
        "register a model, or choose another model: -P model=models:/NAME@ALIAS (registry: MLFLOW_TRACKING_URI)."
    )
    with tracking.handle_missing(lambda _: unknown):
        if parts["alias"]:
            version = find_version_by_alias(client, parts["name"], parts["alias"])
        else:
            version = client.get_model_version(parts["name"], parts["version"])
    if version is None:
        raise unknown
    source = f"{version.run_id} {version.source}"
    calibration = version.tags.get(CALIBRATION, NOT_CALIBRATED)
    return RegisteredVersion(str(version.name), str(version.version), source, str(version.run_id or ""), calibration)

"""External state that affects a step's result: the version of the data source, and the model registry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import requests
from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.config import Config
from stepkit.errors import StepError
from stepkit.paths import resolve_path
from stepkit.secret_urls import resolve_url
from stepkit.settings.evaluate import PASSED, VERDICT
from stepkit.store.champion import WITHDRAWN, find_champion, is_promoted_by_hand
from stepkit.store.lineage import fetch_digest, make_artifact_uri
from stepkit.store.reference import find_reference
from stepkit.store.tracking import handle_missing
from stepkit.table.tables import compute_sha256

MAX_WAIT_SECONDS = 5.0
NONE, ITSELF = "none", "itself"


@dataclass(frozen=True)
class StepContext:
    """State of a pipeline on which the reuse of a step depends.

    Attributes:
        done: run id of each step that has succeeded or was reused; grows while the pipeline runs.
        since: start of the sweep in ms since 1970; 0 for a single pipeline.
    """

    client: MlflowClient
    config: Config
    experiment_id: str
    done: dict[str, str]
    since: int = 0

    @property
    def purpose(self) -> str:
        """Name of the data set and of the registered model, without quotes so that runs can be searched by it."""
        return f"{self.config.data.name} for {self.config.register_.model_name}".replace("'", "")


def describe_source(context: StepContext) -> dict[str, str]:
    """Return the version of the source data: ETag, modification time or sha256; "" if the source provides none."""
    url = resolve_path(resolve_url(context.config.data.file_url))
    if url.startswith(("http://", "https://")):
        return {"source": _fetch_server_version(url, min(context.config.download.stall_seconds, MAX_WAIT_SECONDS))}
    path = url.removeprefix("file://")
    if "://" in path:
        return {"source": _fetch_store_version(url)}
    return {"source": f"sha256:{compute_sha256(Path(path))}" if Path(path).is_file() else ""}


def _fetch_server_version(url: str, timeout_seconds: float) -> str:
    try:
        response = requests.head(url, allow_redirects=True, timeout=timeout_seconds)
    except requests.RequestException:
        return ""  # The download step tries several times and reports the error.
    versions = [response.headers.get(name, "") for name in ("ETag", "Last-Modified")]
    return next(filter(None, versions), "") if response.ok else ""


def _fetch_store_version(url: str) -> str:
    import fsspec  # slow to load, and most tables are files or on a web server

    try:
        system, path = fsspec.core.url_to_fs(url)
        return str(system.checksum(path))
    except Exception:  # Each store's library has its own errors. The download step comes next and reports them.
        return ""


def describe_reference(context: StepContext) -> dict[str, str]:
    """Return the digest of the reference that check_data compares with."""
    config = context.config
    sample = make_artifact_uri(context.done["preprocess"], config.preprocess.artifact_name)
    reference = config.data.reference_dataset or config.check_data.reference_artifact
    try:
        address, _ = find_reference(context.client, sample, reference, config.register_.model_name)
    except StepError as error:
        return {"reference": f"unavailable: {error}"}
    if not address:
        return {"reference": NONE}
    if not address.startswith("runs:/"):
        return {"reference": f"sha256:{compute_sha256(Path(address))}"}
    with handle_missing(None, StepError):
        return {"reference": fetch_digest(context.client, address)}
    return {"reference": f"unavailable: {address}"}  # The run or artifact does not exist; check_data reports it.


def describe_champion(context: StepContext) -> dict[str, str]:
    """Return the champion that the verdict depends on."""
    champion = find_champion(context.client, context.config.register_.model_name)
    if champion is None:
        return {"champion": NONE}
    if champion.run_id == context.done[context.config.model]:
        return {"champion": ITSELF}
    by_hand = ", promoted by hand" if is_promoted_by_hand(champion) else ""
    return {"champion": f"version {champion.version} (run {champion.run_id or 'unknown'}{by_hand})"}


def explain_unregistered(context: StepContext, run: Run) -> str:
    """Return why the result of a finished register run is no longer in the registry, or ""."""
    name, number = run.data.tags.get("model_name", ""), run.data.tags.get("model_version", "")
    version = None
    with handle_missing():
        version = context.client.get_model_version(name, number)
    if version is None:
        return f"{name} version {number} is no longer registered"
    if WITHDRAWN in version.tags:
        return ""  # Someone replaced this version by hand. A pipeline must not promote it again.
    passed = context.client.get_run(context.done["evaluate"]).data.tags.get(VERDICT) == PASSED
    champion = find_champion(context.client, name)
    if passed and (champion is None or str(champion.version) != number):
        return f"version {number} is no longer the champion"
    return ""

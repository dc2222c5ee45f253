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
    """State of a pipeline that decides whether a step runs.

    Attributes:
        done: the run of each step that has succeeded, now or earlier; grows while the pipeline runs.
        since: when its sweep began (ms since 1970); 0 for a single pipeline.
    """

    client: MlflowClient
    config: Config
    experiment_id: str
    done: dict[str, str]
    since: int = 0

    @property
    def purpose(self) -> str:
        """The data set and the registered model; without quotes, since runs are searched by it."""
        return f"{self.config.data.name} for {self.config.register_.model_name}".replace("'", "")


def describe_source(context: StepContext) -> dict[str, str]:
    """The version of the data at their source: ETag, time of change or sha256; "" where the source names none."""
    url = resolve_path(resolve_url(context.config.data.file_url))
    if url.startswith(("http://", "https://")):
        return {"source": _fetch_server_version(url, min(context.config.download.stall_seconds, MAX_WAIT_SECONDS))}
    place = url.removeprefix("file://")
    if "://" in place:
        return {"source": _fetch_store_version(url)}
    return {"source": f"sha256:{compute_sha256(Path(place))}" if Path(place).is_file() else ""}


def _fetch_server_version(url: str, patience: float) -> str:
    try:
        answer = requests.head(url, allow_redirects=True, timeout=patience)
    except requests.RequestException:
        return ""  # the download will say it better, after as many tries as it is told to make
    marks = [answer.headers.get(name, "") for name in ("ETag", "Last-Modified")]
    return next(filter(None, marks), "") if answer.ok else ""


def _fetch_store_version(url: str) -> str:
    import fsspec  # takes its time to load, and most tables lie in a file or on a web server

    try:
        system, path = fsspec.core.url_to_fs(url)
        return str(system.checksum(path))
    except Exception:  # whatever the store's library raises: the download, which comes next, tells it
        return ""


def describe_reference(context: StepContext) -> dict[str, str]:
    """The digest of what check_data compares with."""
    config = context.config
    sample = make_artifact_uri(context.done["preprocess"], config.preprocess.artifact_name)
    wanted = config.data.reference_dataset or config.check_data.reference_artifact
    try:
        address, _ = find_reference(context.client, sample, wanted, config.register_.model_name)
    except StepError as error:
        return {"reference": f"cannot be had: {error}"}
    if not address:
        return {"reference": NONE}
    if not address.startswith("runs:/"):
        return {"reference": f"sha256:{compute_sha256(Path(address))}"}
    with handle_missing(None, StepError):
        return {"reference": fetch_digest(context.client, address)}
    return {"reference": f"cannot be had: {address}"}  # no such run or artifact: check_data reports it


def describe_champion(context: StepContext) -> dict[str, str]:
    """The champion that a verdict compares with, or that stays because it is of another data set."""
    found = find_champion(context.client, context.config.register_.model_name)
    if found is None:
        return {"champion": NONE}
    if found.run_id == context.done["random_forest"]:
        return {"champion": ITSELF}
    by_hand = ", put there by hand" if is_promoted_by_hand(found) else ""
    return {"champion": f"version {found.version} (run {found.run_id or 'unknown'}{by_hand})"}


def explain_unregistered(context: StepContext, run: Run) -> str:
    """Return why what a finished register run did does not hold any more, or ""."""
    name, version = run.data.tags.get("model_name", ""), run.data.tags.get("model_version", "")
    found = None
    with handle_missing():
        found = context.client.get_model_version(name, version)
    if found is None:
        return f"{name} version {version} is not registered any more"
    if WITHDRAWN in found.tags:
        return ""  # a person put another version in its place
    passed = context.client.get_run(context.done["evaluate"]).data.tags.get(VERDICT) == PASSED
    stands = find_champion(context.client, name)
    if passed and (stands is None or str(stands.version) != version):
        return f"version {version} is not the champion any more"
    return ""

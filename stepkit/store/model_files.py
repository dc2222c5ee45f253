"""Files of a logged model: their folder, and their sha256 values to detect changes."""

from __future__ import annotations

from pathlib import Path

import mlflow
from mlflow import MlflowClient

from stepkit.files import compute_sha256
from stepkit.paths import ROOT, to_artifact_path

LOCK = ROOT / "requirements" / "run.lock"
"""Lock of the packages that train, export and serve a model."""

LEFT_BY_LOADING = ("registered_model_meta", "__pycache__")
"""Names that MLflow and Python add to a model's folder when they load the model."""


def fetch_model(client: MlflowClient, model_id: str, folder: Path) -> Path:
    """Return the folder with the files of a logged model: the original one if it is local, else a download."""
    local_folder = to_artifact_path(client.get_logged_model(model_id).artifact_location)
    return local_folder or Path(mlflow.artifacts.download_artifacts(f"models:/{model_id}", dst_path=str(folder)))


def compute_digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file of a model by its relative path; "link" for a symbolic link."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir()]
    files = {path.relative_to(folder): path for path in paths}
    model_files = {str(name): path for name, path in files.items() if not {*name.parts} & {*LEFT_BY_LOADING}}
    return {name: "link" if path.is_symlink() else compute_sha256(path) for name, path in model_files.items()}


def compute_lock_digest() -> str:
    """Return "sha256:..." of LOCK, "unknown" if this copy of the repository lacks it."""
    return f"sha256:{compute_sha256(LOCK)}" if LOCK.is_file() else "unknown"


def compare_digests(recorded: dict[str, str], now: dict[str, str]) -> list[str]:
    """Return a phrase for each file that is missing, added or altered."""
    changed = sorted(name for name in {*recorded, *now} if recorded.get(name) != now.get(name))
    return [
        f"{name} {'is missing' if name not in now else 'was altered' if name in recorded else 'was added'}"
        for name in changed
    ]

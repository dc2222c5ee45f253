"""Files of a logged model: where they are, and the sha256 by which an altered one is found."""

from __future__ import annotations

from pathlib import Path

import mlflow
from mlflow import MlflowClient

from stepkit.paths import to_artifact_path
from stepkit.table.tables import compute_sha256

LEFT_BY_LOADING = ("registered_model_meta", "__pycache__")
"""Names that MLflow and Python add to a model's folder when they load the model from it."""


def fetch_model(client: MlflowClient, model_id: str, folder: Path) -> Path:
    """Return the folder with the files of a logged model: its own if that is on this machine, else a download."""
    here = to_artifact_path(client.get_logged_model(model_id).artifact_location)
    return here or Path(mlflow.artifacts.download_artifacts(f"models:/{model_id}", dst_path=str(folder)))


def compute_digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file of a model by its path; a link has none, since its target may change."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir()]
    own = {path.relative_to(folder): path for path in files}
    names = {str(name): path for name, path in own.items() if not {*name.parts} & {*LEFT_BY_LOADING}}
    return {name: "link" if path.is_symlink() else compute_sha256(path) for name, path in names.items()}


def compare_digests(recorded: dict[str, str], now: dict[str, str]) -> list[str]:
    """Return, in words, which files are missing, added or altered."""
    changed = sorted(name for name in {*recorded, *now} if recorded.get(name) != now.get(name))
    return [
        f"{name} {'is gone' if name not in now else 'was altered' if name in recorded else 'was added'}"
        for name in changed
    ]

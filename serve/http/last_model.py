"""The last champion on disk, for the workers of one scorer: a restarted worker answers while the registry is away."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from serve.http.event_log import log_event
from serve.http.shutdown import SUPERVISOR_VARIABLE
from serve.settings import METRICS_FOLDER_VARIABLE
from stepkit.table.tables import compute_sha256

# in the folder that the workers share for their metrics, and that is removed with the last of them
SUBFOLDER, RECORD = "last-model", "record.json"


@dataclass(frozen=True)
class ModelCopy:
    """A version that a worker serves or has served, where its files are, and their sha256."""

    version: str
    place: str
    digests: dict[str, str]

    def is_intact(self) -> bool:
        try:
            return _compute_digests(Path(self.place)) == self.digests
        except OSError:  # another worker replaces them
            return False


def save_copy(version: str, source: Path) -> None:
    """Copy the files of a model that is served from now on, and remove the copy of the previous one.

    A copy that another worker made stays: a third one may be loading it.
    """
    folder, before = _find_folder(), find_copy()
    if folder is None:
        return
    try:
        digests = _compute_digests(source)
        if before and (before.version, before.digests) == (version, digests) and before.is_intact():
            return
        folder.mkdir(exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=folder))
        shutil.copytree(source, place, ignore=shutil.ignore_patterns("*.pyc"), dirs_exist_ok=True)
        record = place.with_suffix(".json")
        record.write_text(json.dumps(asdict(ModelCopy(version, str(place), digests))), encoding="utf-8")
        record.replace(folder / RECORD)
    except OSError as error:  # without a copy the scorer answers as before
        log_event("model_not_kept", version=version, error=str(error))
        return
    if before:
        shutil.rmtree(before.place, ignore_errors=True)


def find_copy() -> ModelCopy | None:
    """Return the model that a worker kept last, or None."""
    folder = _find_folder()
    try:
        return ModelCopy(**json.loads((folder / RECORD).read_text(encoding="utf-8"))) if folder else None
    except (OSError, ValueError):
        return None


def _find_folder() -> Path | None:
    """Return the folder of the workers; None for a scorer of one process, which hands its model to no other."""
    return Path(os.environ[METRICS_FOLDER_VARIABLE]) / SUBFOLDER if SUPERVISOR_VARIABLE in os.environ else None


def _compute_digests(place: Path) -> dict[str, str]:
    """Return the sha256 of each file, but not of those that Python adds when it loads a model's code."""
    files = (path for path in place.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(path.relative_to(place)): compute_sha256(path) for path in files}

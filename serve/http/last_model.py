"""Copy of the champion on disk, from which a restarted worker can serve while the registry is unavailable."""

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

# The workers share the parent folder for their metrics; the last one that ends removes it.
SUBFOLDER, RECORD = "last-model", "record.json"


@dataclass(frozen=True)
class ModelCopy:
    """Version that a worker serves or has served, the folder of its files, and the sha256 of each file."""

    version: str
    place: str
    digests: dict[str, str]

    def is_intact(self) -> bool:
        """Return True if all files exist and have their recorded sha256."""
        try:
            return _compute_digests(Path(self.place)) == self.digests
        except OSError:  # another worker is replacing them
            return False


def save_copy(version: str, source: Path) -> None:
    """Copy the files of the version that this worker now serves, and remove the copy of the previous version.

    An intact copy of the same files stays, because another worker may be loading it.
    """
    folder, previous = _find_folder(), find_copy()
    if folder is None:
        return
    try:
        digests = _compute_digests(source)
        if previous and (previous.version, previous.digests) == (version, digests) and previous.is_intact():
            return
        folder.mkdir(exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=folder))
        shutil.copytree(source, place, ignore=shutil.ignore_patterns("*.pyc"), dirs_exist_ok=True)
        record = place.with_suffix(".json")
        record.write_text(json.dumps(asdict(ModelCopy(version, str(place), digests))), encoding="utf-8")
        record.replace(folder / RECORD)
    except OSError as error:  # the scorer works without the copy
        log_event("model_not_kept", version=version, error=str(error))
        return
    if previous:
        shutil.rmtree(previous.place, ignore_errors=True)


def find_copy() -> ModelCopy | None:
    """Return the copy that a worker saved last, or None."""
    folder = _find_folder()
    try:
        return ModelCopy(**json.loads((folder / RECORD).read_text(encoding="utf-8"))) if folder else None
    except (OSError, ValueError):
        return None


def _find_folder() -> Path | None:
    """Return the folder that the workers share; None for a scorer of one process."""
    return Path(os.environ[METRICS_FOLDER_VARIABLE]) / SUBFOLDER if SUPERVISOR_VARIABLE in os.environ else None


def _compute_digests(place: Path) -> dict[str, str]:
    """Return the sha256 of each file, without the .pyc files that Python adds when it loads a model's code."""
    files = (path for path in place.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(path.relative_to(place)): compute_sha256(path) for path in files}

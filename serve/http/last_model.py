"""The last champion on disk, for the workers of one scorer: a restarted worker answers while the registry is away."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from serve.http.event_log import note
from serve.http.shutdown import SUPERVISOR
from serve.settings import METRICS_FOLDER
from stepkit.table.tables import sha256_of

# in the folder that the workers share for their metrics, and that is removed with the last of them
SUBFOLDER, RECORD = "last-model", "record.json"


@dataclass(frozen=True)
class LastModel:
    """A version that a worker serves or has served, where its files are, and their sha256."""

    version: str
    place: str
    digests: dict[str, str]

    def is_intact(self) -> bool:
        try:
            return _digests(Path(self.place)) == self.digests
        except OSError:  # another worker replaces them
            return False


def keep(version: str, source: Path) -> None:
    """Copy the files of a model that is served from now on, and remove the copy of the previous one.

    A copy that another worker made stays: a third one may be loading it.
    """
    folder, before = _folder(), last()
    if folder is None:
        return
    try:
        digests = _digests(source)
        if before and (before.version, before.digests) == (version, digests) and before.is_intact():
            return
        folder.mkdir(exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=folder))
        shutil.copytree(source, place, ignore=shutil.ignore_patterns("*.pyc"), dirs_exist_ok=True)
        record = place.with_suffix(".json")
        record.write_text(json.dumps(asdict(LastModel(version, str(place), digests))), encoding="utf-8")
        record.replace(folder / RECORD)
    except OSError as error:  # without a copy the scorer answers as before
        note("model_not_kept", version=version, error=str(error))
        return
    if before:
        shutil.rmtree(before.place, ignore_errors=True)


def last() -> LastModel | None:
    """Return the model that a worker kept last, or None."""
    folder = _folder()
    try:
        return LastModel(**json.loads((folder / RECORD).read_text(encoding="utf-8"))) if folder else None
    except (OSError, ValueError):
        return None


def _folder() -> Path | None:
    """Return the folder of the workers; None for a scorer of one process, which hands its model to no other."""
    return Path(os.environ[METRICS_FOLDER]) / SUBFOLDER if SUPERVISOR in os.environ else None


def _digests(place: Path) -> dict[str, str]:
    """Return the sha256 of each file, but not of those that Python adds when it loads a model's code."""
    files = (path for path in place.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(path.relative_to(place)): sha256_of(path) for path in files}

"""The last champion on disk, for the workers of one scorer: a restarted worker answers while the registry is away."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from serve.ending import SUPERVISOR
from serve.errors import ModelRefused
from serve.journal import note
from serve.metrics import FOLDER
from stepkit.tables import sha256_of

SUBFOLDER = "last-model"
"""Of the folder that the workers share for their metrics, and that is removed with the last of them."""

RECORD = "record.json"


@dataclass(frozen=True)
class LastModel:
    """A version that a worker serves or has served, where its files are, and their sha256."""

    name: str
    version: str
    place: str
    digests: dict[str, str]

    def verified_folder(self) -> Path:
        """Return the folder of the files.

        Raises:
            ModelRefused: they are not the ones that were kept.
        """
        if _digests(Path(self.place)) != self.digests:
            raise ModelRefused(f"version {self.version}: its files in {self.place} were altered")
        return Path(self.place)


def keep(name: str, version: str, source: Path) -> None:
    """Copy the files of a model that is served from now on, and remove those of the one before."""
    folder = _folder()
    if folder is None:
        return
    before = last()
    try:
        folder.mkdir(exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=folder))
        shutil.copytree(source, place, dirs_exist_ok=True)
        record = place.with_suffix(".json")
        record.write_text(json.dumps(asdict(LastModel(name, version, str(place), _digests(place)))), encoding="utf-8")
        record.replace(folder / RECORD)
    except OSError as error:  # without a copy the scorer answers as before
        note("model_not_kept", version=version, error=str(error))
    else:
        if before:
            shutil.rmtree(before.place, ignore_errors=True)


def last() -> LastModel | None:
    """Return the model that a worker kept last, or None."""
    folder = _folder()
    if folder is None:
        return None
    try:
        return LastModel(**json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _folder() -> Path | None:
    """Return the folder of the workers; None for a scorer of one process, which has nobody to hand a model to."""
    return Path(os.environ[FOLDER]) / SUBFOLDER if SUPERVISOR in os.environ else None


def _digests(place: Path) -> dict[str, str]:
    return {str(path.relative_to(place)): sha256_of(path) for path in sorted(place.rglob("*")) if path.is_file()}

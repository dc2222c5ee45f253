"""What a backup says of itself: format, moment, what made it, each database's rows, and every file's sha256."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from backup.errors import BackupUnfit

FORMAT = 1
NAME = "manifest.json"
ROOT = Path(__file__).resolve().parents[1]
LOCKS = {"mlflow": "run.lock", "apache-airflow": "airflow.lock"}
LOG_VERSION = "prediction_log_version"
CHUNK = 1 << 20


@dataclass
class Database:
    """One database of a backup."""

    kind: str
    file: str
    rows: dict[str, int]
    versions: dict[str, str]


@dataclass
class Manifest:
    """The last file of a backup that is written: where it is missing, the backup was not finished."""

    format: int
    made: str
    made_by: dict[str, str]
    databases: dict[str, Database]
    files: dict[str, str]

    def write(self, folder: Path) -> None:
        (folder / NAME).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def read(folder: Path) -> Manifest:
    """Return the manifest of a backup.

    Raises:
        BackupUnfit: no backup, half of one, or one of another format.
    """
    path = folder / NAME
    if not path.is_file():
        raise BackupUnfit(
            f"{folder} is no finished backup: it has no {NAME}, which is written last. Take another one: ls backups"
        )
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
        found = loaded["format"]
        if found != FORMAT:
            raise BackupUnfit(f"{folder} has format {found}, and this code reads {FORMAT}. Use the code that made it.")
        loaded["databases"] = {name: Database(**one) for name, one in loaded["databases"].items()}
        return Manifest(**loaded)
    except (ValueError, KeyError, TypeError) as error:
        raise BackupUnfit(f"{path} is damaged ({error}). Take another backup: ls backups") from error


def expect_whole(folder: Path, manifest: Manifest) -> None:
    """Raise BackupUnfit unless every file is there as it was written."""
    for name, digest in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise BackupUnfit(f"{path} is missing from the backup. Take another one: ls backups")
        if sha256_of(path) != digest:
            raise BackupUnfit(f"{path} is not as it was written (its sha256 differs). Take another backup: ls backups")


def expect_readable(manifest: Manifest) -> None:
    """Raise BackupUnfit where this code is older than what wrote the databases; it could not read their schemas."""
    for package, made_by in manifest.made_by.items():
        ours = pinned(package)
        if ours and _parts(made_by) > _parts(ours):
            raise BackupUnfit(
                f"the backup was made with {package} {made_by}, this code has {ours} and cannot read its database. "
                "Check out the newer code and restore with that."
            )
    found = {version for one in manifest.databases.values() if (version := one.versions.get(LOG_VERSION))}
    newest = max(int(number) for number in _log_versions())
    if any(int(version) > newest for version in found):
        raise BackupUnfit(
            f"the prediction log of the backup has schema {max(found)}, this code knows none newer than {newest}. "
            "Check out the newer code and restore with that."
        )


def made_by() -> dict[str, str]:
    """The versions of the packages that own the databases' schemas, by the locks beside this code."""
    return {name: version for name in LOCKS if (version := pinned(name))}


def pinned(package: str) -> str:
    lock = ROOT / "requirements" / LOCKS.get(package, "")
    text = lock.read_text(encoding="utf-8") if lock.is_file() else ""
    found = re.search(rf"^{re.escape(package)}==([\d.]+)", text, flags=re.MULTILINE)
    return found[1] if found else ""


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _parts(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def _log_versions() -> list[str]:
    folder = ROOT / "serve" / "record" / "migrations" / "versions"
    return [found[1] for path in folder.glob("v*_*.py") if (found := re.match(r"v(\d+)_", path.name))] or ["0"]

"""Manifest of a backup: format, time, databases, versions, the sha256 of each file, and missing artifacts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from backup.errors import BackupUnfit
from stepkit.files import compute_sha256
from stepkit.paths import ROOT

FORMAT = 2
READABLE = (1, 2)
NAME = "manifest.json"
LOCKS = {"mlflow": "run.lock", "apache-airflow": "airflow.lock"}
LOG_VERSION = "prediction_log_version"
HINT = "Choose another backup: ls backups"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a backup after checking all its files.

    Raises:
        BackupUnfit: the backup is unfinished or damaged, or this code cannot restore it.
    """
    path = folder / NAME
    if not path.is_file():
        raise BackupUnfit(f"{folder}: not a finished backup ({NAME} is missing). {HINT}")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] not in READABLE:
            raise BackupUnfit(
                f"{path}: unknown format (found {manifest['format']}, expected one of {READABLE}). Use newer code."
            )
        versions = [*manifest["made_by"].items()]
        versions += [pair for saved in manifest["databases"].values() for pair in saved["versions"].items()]
        files = dict(manifest["files"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackupUnfit(f"{path}: damaged ({error}). {HINT}") from error
    for name, digest in files.items():
        if not (folder / name).is_file():
            raise BackupUnfit(f"{folder / name}: missing. {HINT}")
        if compute_sha256(folder / name) != digest:
            raise BackupUnfit(f"{folder / name}: damaged (its sha256 differs). {HINT}")
    for owner, version in versions:
        if _parse_version(version) > _parse_version(read_known_versions().get(owner, version)):
            raise BackupUnfit(
                f"{folder}: made with a newer {owner} (found {version}, this code has {read_known_versions()[owner]}). "
                "Check out the newer code, and restore with it."
            )
    return manifest


def read_known_versions() -> dict[str, str]:
    """Return the newest schema of the prediction log, and the versions of the packages that own the other schemas."""
    logs = (ROOT / "prediction_log" / "migrations" / "versions").glob("v*_*.py")
    versions = {LOG_VERSION: max((path.name[1:].partition("_")[0] for path in logs), key=int, default="0")}
    for package, name in LOCKS.items():
        lock = ROOT / "requirements" / name
        text = lock.read_text(encoding="utf-8") if lock.is_file() else ""
        if pin := re.search(rf"^{package}==([\d.]+)", text, re.MULTILINE):
            versions[package] = pin[1]
    return versions


def _parse_version(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]

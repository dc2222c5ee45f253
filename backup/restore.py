"""Restore of a backup: stage all files, swap them by renaming, then load the champion. A failure undoes all of it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from shutil import copyfile, rmtree
from typing import Any

from backup.artifacts import CHAMPIONS_SQL, FOLDER, HIDDEN_PREFIXES, copy_tree, find_place, is_mlflow_store
from backup.databases import SQLITE_ENDINGS, query, restore_postgres, verify_ready
from backup.errors import BackupError, BackupIncomplete, BackupUnfit, RestoreUnfinished, TargetUnfit
from backup.manifest import read_manifest
from backup.stores import DATABASES
from stepkit.paths import ROOT, make_sqlite_url
from stepkit.store.relocate import relocate_store
from stepkit.words import pluralize

LOAD_SCRIPT = """import sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
mlflow.pyfunc.load_model(f"models:/{sys.argv[2]}/{sys.argv[3]}")"""


def restore(databases: dict[str, tuple[str, str]], artifacts: Path, source: Path, replace: bool) -> str:
    """Restore a backup and return a summary. All checks come before the first change.

    Raises:
        BackupUnfit, TargetUnfit: nothing has changed.
        RestoreUnfinished: the restore failed after it had replaced a PostgreSQL database.
        BackupIncomplete: the backup is restored, but it lacks some artifacts.
    """
    manifest = read_manifest(source)
    _verify_targets(manifest, databases, artifacts, replace)
    sqlite = {name: saved for name, saved in manifest["databases"].items() if saved["kind"] == "sqlite"}
    files = {source / saved["file"]: Path(databases[name][1]) for name, saved in sqlite.items()}
    aside = f".before-{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}"
    replaced = list[str]()
    try:
        with ExitStack() as undo:
            _swap_files(files, source / FOLDER, artifacts, aside, undo)
            for name, saved in reversed(manifest["databases"].items()):
                if saved["kind"] == "postgresql":
                    restore_postgres(source / saved["file"], databases[name][1])
                    replaced.append(name)
                    undo.pop_all()  # the replaced database refers to the new artifacts
                elif is_mlflow_store(saved):
                    relocate_store(Path(databases[name][1]))
            proof = _load_champions(manifest, databases, artifacts)
            undo.pop_all()
    except (BackupError, OSError, sqlite3.Error) as error:
        aside_paths = [artifacts / aside, *(target.with_name(target.name + aside) for target in files.values())]
        old = [path for path in aside_paths if path.exists()]
        if not replaced and not old:
            raise
        raise RestoreUnfinished(
            f"{error}. Replaced permanently: {', '.join(replaced) or 'nothing'}. Old files: "
            f"{', '.join(map(str, old)) or 'none'}. Fix the cause, then retry."
        ) from error
    return _describe_restore(manifest, proof)


def _describe_restore(manifest: dict[str, Any], proof: str) -> str:
    """Return the summary of a restore. Raise BackupIncomplete with it if the backup lacks artifacts."""
    number = len(manifest["files"]) - len(manifest["databases"])
    restored = f"{', '.join(manifest['databases'])} and {pluralize(number, 'artifact')}"
    summary = f"restored {restored}, as of {manifest['made']}{proof}"
    if missing := manifest.get("missing"):
        lacking = pluralize(len(missing), "file")
        raise BackupIncomplete(f"{summary}. Missing from the backup: {lacking}, the first: {missing[0]}")
    return summary


def _verify_targets(
    manifest: dict[str, Any], databases: dict[str, tuple[str, str]], artifacts: Path, replace: bool
) -> None:
    for name, saved in manifest["databases"].items():
        kind, address = databases.get(name, ("", ""))
        if kind != saved["kind"]:
            raise BackupUnfit(
                f"{DATABASES}: no {saved['kind']} database '{name}', but the backup has one. Add it to {DATABASES}."
            )
        verify_ready(kind, address, replace)
    if artifacts.is_dir() and any(artifacts.iterdir()) and not replace:
        raise TargetUnfit(f"{artifacts}: not empty. To move its files aside and restore: replace=yes")


def _swap_files(files: dict[Path, Path], source: Path, artifacts: Path, aside: str, undo: ExitStack) -> None:
    """Swap in artifacts and SQLite files. Callbacks on `undo` reverse each change."""
    staged, old_folder = artifacts / aside.replace(*HIDDEN_PREFIXES), artifacts / aside
    artifacts.mkdir(parents=True, exist_ok=True)
    undo.callback(rmtree, staged, ignore_errors=True)
    staged.mkdir()
    copy_tree(source, staged)
    moves = [
        (path, old_folder / path.name) for path in artifacts.iterdir() if not path.name.startswith(HIDDEN_PREFIXES)
    ]
    moves += [(path, artifacts / path.name) for path in staged.iterdir()]
    for saved, target in files.items():
        copy = target.with_name(target.name + staged.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        undo.callback(copy.unlink, missing_ok=True)
        copyfile(saved, copy)
        old = [
            (target.with_name(target.name + end), target.with_name(target.name + aside + end)) for end in SQLITE_ENDINGS
        ]
        moves += [*(pair for pair in old if pair[0].exists()), (copy, target)]
    old_folder.mkdir()
    undo.callback(old_folder.rmdir)
    for before, after in moves:
        before.rename(after)
        undo.callback(after.rename, before)
    for folder in (folder for folder in (staged, old_folder) if not any(folder.iterdir())):
        folder.rmdir()
        undo.callback(folder.mkdir)


def _load_champions(manifest: dict[str, Any], databases: dict[str, tuple[str, str]], artifacts: Path) -> str:
    """Load each champion from its new place, or check its files if MLflow is missing. Raise BackupUnfit on failure."""
    venv_python, proof = ROOT / ".venv" / "bin" / "python", ""
    python = str(venv_python) if venv_python.is_file() else sys.executable if find_spec("mlflow") else ""
    for name in (name for name, saved in manifest["databases"].items() if is_mlflow_store(saved)):
        kind, address = databases[name]
        for model, version, location in query(kind, address, CHAMPIONS_SQL):
            folder, _ = find_place(location, artifacts)
            fault = "" if not folder or (folder / "MLmodel").is_file() else f"{folder / 'MLmodel'} is missing"
            result = "has its files (not loaded)"
            # In the stack, the scorer loads the champion through the server.
            if kind == "sqlite" and not fault and python:
                fault, result = _explain_load_failure(python, make_sqlite_url(Path(address)), model, version), "loads"
            if fault:
                result = f"does not load from its new place: {fault}"
            proof += f"; the champion {model} version {version} {result}"
            if fault and not manifest.get("missing"):
                raise BackupUnfit(f"{proof[2:]}.")
    return proof


def _explain_load_failure(python: str, store: str, model: str, version: str) -> str:
    """Return the reason why a version does not load, or ""."""
    env = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    result = subprocess.run(
        [python, "-c", LOAD_SCRIPT, store, model, version], cwd=ROOT, env=env, capture_output=True, text=True
    )
    return (result.stderr.strip().rpartition("\n")[2] or "no message") if result.returncode else ""

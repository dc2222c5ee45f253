"""Put a backup in place: stage everything, then swap by renaming, then prove it. A failure undoes all of it."""

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

LOAD_SCRIPT = """import sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
mlflow.pyfunc.load_model(f"models:/{sys.argv[2]}/{sys.argv[3]}")"""


def restore(databases: dict[str, tuple[str, str]], artifacts: Path, source: Path, replace: bool) -> str:
    """Put a backup in place and return a summary. Everything is checked before anything is changed.

    Raises:
        BackupUnfit, TargetUnfit: nothing has changed.
        RestoreUnfinished: it failed after a database of PostgreSQL's was replaced.
        BackupIncomplete: it is in place, but the backup lacked something from the beginning.
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
                    undo.pop_all()  # it refers to the new artifacts
                elif is_mlflow_store(saved):
                    relocate_store(Path(databases[name][1]))
            proof = _load_champions(manifest, databases, artifacts)
            undo.pop_all()
    except (BackupError, OSError, sqlite3.Error) as error:
        kept = [artifacts / aside, *(target.with_name(target.name + aside) for target in files.values())]
        old = [path for path in kept if path.exists()]
        if not replaced and not old:
            raise
        raise RestoreUnfinished(
            f"{error}. Replaced for good: {', '.join(replaced) or 'nothing'}. The old files: "
            f"{', '.join(map(str, old)) or 'none'}. Fix the cause, then restore again."
        ) from error
    number = len(manifest["files"]) - len(manifest["databases"])
    summary = f"restored {', '.join(manifest['databases'])} and {number:,} artifacts, as of {manifest['made']}{proof}"
    if missing := manifest.get("missing"):
        raise BackupIncomplete(f"{summary}. The backup lacked {len(missing):,} files, the first: {missing[0]}")
    return summary


def _verify_targets(
    manifest: dict[str, Any], databases: dict[str, tuple[str, str]], artifacts: Path, replace: bool
) -> None:
    for name, saved in manifest["databases"].items():
        kind, address = databases.get(name, ("", ""))
        if kind != saved["kind"]:
            raise BackupUnfit(f"the backup has a {saved['kind']} database '{name}', here is none. See {DATABASES}.")
        verify_ready(kind, address, replace)
    if artifacts.is_dir() and any(artifacts.iterdir()) and not replace:
        raise TargetUnfit(f"{artifacts} is not empty. Type replace=yes to put it aside and restore over it.")


def _swap_files(files: dict[Path, Path], source: Path, artifacts: Path, aside: str, undo: ExitStack) -> None:
    """Put artifacts and SQLite files in place, and everything that takes this back on `undo`."""
    staged, kept = artifacts / aside.replace(*HIDDEN_PREFIXES), artifacts / aside
    artifacts.mkdir(parents=True, exist_ok=True)
    undo.callback(rmtree, staged, ignore_errors=True)
    staged.mkdir()
    copy_tree(source, staged)
    moves = [(path, kept / path.name) for path in artifacts.iterdir() if not path.name.startswith(HIDDEN_PREFIXES)]
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
    kept.mkdir()
    undo.callback(kept.rmdir)
    for before, after in moves:
        before.rename(after)
        undo.callback(after.rename, before)
    for folder in (folder for folder in (staged, kept) if not any(folder.iterdir())):
        folder.rmdir()
        undo.callback(folder.mkdir)


def _load_champions(manifest: dict[str, Any], databases: dict[str, tuple[str, str]], artifacts: Path) -> str:
    """Load each champion from its new place (without MLflow: look for its files); raise BackupUnfit if one fails."""
    own, proof = ROOT / ".venv" / "bin" / "python", ""
    python = str(own) if own.is_file() else sys.executable if find_spec("mlflow") else ""
    for name in (name for name, saved in manifest["databases"].items() if is_mlflow_store(saved)):
        kind, address = databases[name]
        for model, version, location in query(kind, address, CHAMPIONS_SQL):
            folder, _ = find_place(location, artifacts)
            fault = "" if not folder or (folder / "MLmodel").is_file() else f"there is no {folder / 'MLmodel'}"
            result = "has its files (not loaded)"
            # in the stack, the scorer loads it through the server
            if kind == "sqlite" and not fault and python:
                fault, result = _explain_load_failure(python, make_sqlite_url(Path(address)), model, version), "loads"
            if fault:
                result = f"does not load from its new place: {fault}"
            proof += f"; the champion {model} version {version} {result}"
            if fault and not manifest.get("missing"):
                raise BackupUnfit(f"{proof[2:]}.")
    return proof


def _explain_load_failure(python: str, store: str, model: str, version: str) -> str:
    """Return why a version does not load, empty if it does."""
    env = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    ended = subprocess.run(
        [python, "-c", LOAD_SCRIPT, store, model, version], cwd=ROOT, env=env, capture_output=True, text=True
    )
    return (ended.stderr.strip().rpartition("\n")[2] or "no message") if ended.returncode else ""

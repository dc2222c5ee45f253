"""backup: save databases and artifacts to a folder, and restore them.

Commands: `python3 -m backup.run save` and `python3 -m backup.run restore --from FOLDER`. They need only Python's
standard library (and PostgreSQL's client programs for its databases), because they run in a container of their own.

Services keep running during a backup, so the order matters: references are copied before the objects they refer to.
The prediction log comes first, because predictions refer to model versions. Artifacts come last, because they exist
before a run refers to them. Objects added meanwhile are harmless extras. At the end, each artifact that the copied
store refers to must be in the backup.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backup.artifacts import (
    FOLDER,
    NamedArtifacts,
    copy_tree,
    find_place,
    is_mlflow_store,
    iter_named_artifacts,
    list_files,
)
from backup.databases import query, save_database
from backup.errors import BackupError, BackupIncomplete, SourceUnreadable
from backup.manifest import FORMAT, LOG_VERSION, NAME, read_known_versions
from backup.restore import restore
from backup.stores import DATABASES, read_databases
from stepkit.files import compute_sha256
from stepkit.paths import ARTIFACTS, ROOT
from stepkit.words import pluralize

MOST_LISTED = 10
"""Largest number of missing artifacts in a message. The manifest lists all of them."""

HELP = """
Restore these files, or delete their runs (mlflow runs delete --run-id ...). If the artifacts are elsewhere, set
BACKUP_ARTIFACTS to their folder, or to the URL of artifacts with their own backup. Then retry."""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="backup", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--databases", default=os.environ.get(DATABASES), help="NAME=URL ...; default: the databases of config.yaml"
    )
    parser.add_argument("--artifacts", default=os.environ.get("BACKUP_ARTIFACTS", ""))
    verbs = parser.add_subparsers(dest="verb", required=True)
    save = verbs.add_parser("save", help="make a backup")
    save.add_argument("--to", default=os.environ.get("BACKUP_TO", str(ROOT / "backups")))
    restore = verbs.add_parser("restore", help="restore a backup")
    restore.add_argument("--from", dest="source", required=True, help="folder of a backup")
    restore.add_argument("--replace", action="store_true", help="replace existing data")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Save or restore, and print a summary or one error message."""
    args = make_parser().parse_args(argv)
    try:
        databases = read_databases(args.databases)
        apart = args.artifacts if "://" in args.artifacts else ""
        kind, address = databases.get("mlflow", ("", ""))
        default = (Path(address).parent if kind == "sqlite" else ROOT) / ARTIFACTS
        artifacts = (default if apart or not args.artifacts else Path(args.artifacts)).resolve()
        if args.verb == "save":
            print(save(databases, artifacts, Path(args.to).absolute(), apart), flush=True)
        else:
            print(restore(databases, artifacts, Path(args.source).absolute(), args.replace), flush=True)
    except BackupError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except (OSError, sqlite3.Error) as error:
        sys.exit(f"BackupFailed: {str(error)[:400]}. Existing data are unchanged.")


def save(databases: dict[str, tuple[str, str]], artifacts: Path, to: Path, apart: str = "") -> str:
    """Write a backup to a new folder in `to`, without artifacts below the URL `apart`, and return a summary.

    Raises:
        SourceUnreadable: a database cannot be read, or no database exists.
        BackupIncomplete: artifacts are missing. The backup without them is kept as NAME.incomplete.
    """
    began = datetime.now(UTC)
    partial = to / f"{began:%Y-%m-%dT%H-%M-%SZ}-{os.getpid()}.partial"
    partial.mkdir(parents=True)
    try:
        saved, named = dict[str, dict[str, Any]](), list[NamedArtifacts]()
        for name, (kind, address) in databases.items():
            if kind != "sqlite" or Path(address).is_file():  # the first prediction creates the log
                saved[name] = _save_database(name, kind, address, partial / f"{name}.{kind}", named)
        if not saved:
            raise SourceUnreadable(f"{DATABASES}: none of these databases exists yet. Run the pipeline once: make run")
        copy_tree(artifacts, partial / FOLDER)
        missing = _save_outside_artifacts(named, artifacts, partial / FOLDER, apart)
        files = {path.relative_to(partial).as_posix(): compute_sha256(path) for path in list_files(partial)}
        manifest = {"format": FORMAT, "made": began.isoformat(), "made_by": read_known_versions(), "databases": saved,
                    "files": files, "missing": missing}  # fmt: skip
        (partial / NAME).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        target = to / f"{began:%Y-%m-%dT%H-%M-%SZ}{'.incomplete' if missing else ''}"
        while target.exists():  # another backup started in the same second
            target = target.with_name(f"{target.name}-2")
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    absent = [f"\nnot saved: {name}: no file {databases[name][1]}" for name in databases if name not in saved]
    runs = {name: f" ({pluralize(entry['runs'], 'run')})" for name, entry in saved.items() if "runs" in entry}
    stores = [name + runs.get(name, "") for name in saved]
    summary = f"{target}: {', '.join(stores)}, {pluralize(len(files) - len(saved), 'artifact')}{''.join(absent)}"
    if missing:
        more = f" and {len(missing) - MOST_LISTED:,} more" if len(missing) > MOST_LISTED else ""
        raise BackupIncomplete(
            "\n".join([summary, "Missing artifacts that a store refers to:", *missing[:MOST_LISTED]]) + more + HELP
        )
    return summary


def _save_database(name: str, kind: str, address: str, target: Path, named: list[NamedArtifacts]) -> dict[str, Any]:
    """Save a database, add its artifacts to `named`, and return its part of the manifest."""
    saved: dict[str, Any] = {
        "kind": kind,
        "file": target.name,
        "tables": save_database(name, kind, address, target),
        "versions": {},
    }
    queried = str(target) if kind == "sqlite" else address  # a dump cannot be queried
    if LOG_VERSION in saved["tables"]:
        saved["versions"] = {LOG_VERSION: query(kind, queried, f"SELECT version_num FROM {LOG_VERSION}")[0][0]}
    if is_mlflow_store(saved):
        named += iter_named_artifacts(kind, queried)
        saved["runs"] = int(query(kind, queried, "SELECT count(*) FROM runs")[0][0])
    return saved


def _save_outside_artifacts(named: list[NamedArtifacts], artifacts: Path, target: Path, apart: str) -> list[str]:
    """Copy artifacts from outside of the artifact folder, and return those that are missing from the backup."""
    missing = list[str]()
    for owner, location, names in named:
        source, place = find_place(location, artifacts)
        if source is None:
            if not location.startswith("models:") and not (apart and location.startswith(apart)):
                missing.append(f"{owner}: {location}: not on this machine")
            continue
        if not source.is_relative_to(artifacts) and not (target / place).exists():
            copy_tree(source, target / place)
        missing += [f"{owner}: {source / name}" for name in names if not (target / place / name).exists()]
    return list(dict.fromkeys(missing))


if __name__ == "__main__":
    main()

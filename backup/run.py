"""backup: databases and artifacts -> a folder, and back. `python3 -m backup.run save` and `... restore --from FOLDER`.

Needs Python alone (and PostgreSQL's client programs for its databases), so that it runs in a container of its own.

The order makes a copy whole while everything goes on. Each database is copied as of one moment, and whatever refers to
something is copied before it. A prediction names a model version, so the prediction log goes first. A run names its
artifacts, which exist before the run names them, so artifacts go last. Whatever is added meanwhile is more than is
referred to, and does no harm. At the end, each artifact that the copied store names must be in the backup.
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

MOST_LISTED = 10
"""How many missing things are listed; the manifest lists all."""

HELP = """
Restore it, or delete its run (mlflow runs delete --run-id ...), or name the folder of the artifacts, or the address of
those that have a backup of their own: BACKUP_ARTIFACTS. Then try again."""


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="backup", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--databases", default=os.environ.get(DATABASES), help="NAME=ADDRESS ...; default: those that config.yaml names"
    )
    parser.add_argument("--artifacts", default=os.environ.get("BACKUP_ARTIFACTS", ""))
    verbs = parser.add_subparsers(dest="verb", required=True)
    save = verbs.add_parser("save", help="make a backup")
    save.add_argument("--to", default=os.environ.get("BACKUP_TO", str(ROOT / "backups")))
    restore = verbs.add_parser("restore", help="put a backup in place")
    restore.add_argument("--from", dest="source", required=True, help="a folder that `save` made")
    restore.add_argument("--replace", action="store_true", help="also if there is something already")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    try:
        databases = read_databases(args.databases)
        apart = args.artifacts if "://" in args.artifacts else ""
        kind, address = databases.get("mlflow", ("", ""))
        beside = (Path(address).parent if kind == "sqlite" else ROOT) / ARTIFACTS
        artifacts = (beside if apart or not args.artifacts else Path(args.artifacts)).resolve()
        if args.verb == "save":
            print(save(databases, artifacts, Path(args.to).absolute(), apart), flush=True)
        else:
            print(restore(databases, artifacts, Path(args.source).absolute(), args.replace), flush=True)
    except BackupError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except (OSError, sqlite3.Error) as error:
        sys.exit(f"BackupFailed: {str(error)[:400]}. Nothing that was there before has changed.")


def save(databases: dict[str, tuple[str, str]], artifacts: Path, to: Path, apart: str = "") -> str:
    """Make a backup below `to`, but for artifacts at the address `apart`; return a summary.

    Raises:
        SourceUnreadable: a database cannot be read, or there is none.
        BackupIncomplete: something that a store names is missing; the rest is kept as NAME.incomplete.
    """
    made = datetime.now(UTC)
    partial = to / f"{made:%Y-%m-%dT%H-%M-%SZ}-{os.getpid()}.partial"
    partial.mkdir(parents=True)
    try:
        found, named = dict[str, dict[str, Any]](), list[NamedArtifacts]()
        for name, (kind, address) in databases.items():
            if kind != "sqlite" or Path(address).is_file():  # a log without predictions does not exist yet
                found[name] = _save_database(name, kind, address, partial / f"{name}.{kind}", named)
        if not found:
            raise SourceUnreadable("there is no database to save yet. Run the pipeline once: make run")
        copy_tree(artifacts, partial / FOLDER)
        missing = _save_outside_artifacts(named, artifacts, partial / FOLDER, apart)
        files = {path.relative_to(partial).as_posix(): compute_sha256(path) for path in list_files(partial)}
        manifest = {"format": FORMAT, "made": made.isoformat(), "made_by": read_known_versions(), "databases": found,
                    "files": files, "missing": missing}  # fmt: skip
        (partial / NAME).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        target = to / f"{made:%Y-%m-%dT%H-%M-%SZ}{'.incomplete' if missing else ''}"
        while target.exists():  # a backup of the same second
            target = target.with_name(f"{target.name}-2")
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    absent = [f"\nnot in it: {name}, no file {databases[name][1]}" for name in databases if name not in found]
    stores = [f"{name} ({saved['runs']:,} runs)" if "runs" in saved else name for name, saved in found.items()]
    summary = f"{target}: {', '.join(stores)}, {len(files) - len(found):,} artifacts{''.join(absent)}"
    if missing:
        more = f" and {len(missing) - MOST_LISTED:,} more" if len(missing) > MOST_LISTED else ""
        raise BackupIncomplete(
            "\n".join([summary, "Missing, although a store names it:", *missing[:MOST_LISTED]]) + more + HELP
        )
    return summary


def _save_database(name: str, kind: str, address: str, target: Path, named: list[NamedArtifacts]) -> dict[str, Any]:
    """Save a database, add the artifacts that it names, and return its part of the manifest."""
    saved: dict[str, Any] = {
        "kind": kind,
        "file": target.name,
        "tables": save_database(name, kind, address, target),
        "versions": {},
    }
    asked = str(target) if kind == "sqlite" else address  # a dump cannot be asked
    if LOG_VERSION in saved["tables"]:
        saved["versions"] = {LOG_VERSION: query(kind, asked, f"SELECT version_num FROM {LOG_VERSION}")[0][0]}
    if is_mlflow_store(saved):
        named += iter_named_artifacts(kind, asked)
        saved["runs"] = int(query(kind, asked, "SELECT count(*) FROM runs")[0][0])
    return saved


def _save_outside_artifacts(named: list[NamedArtifacts], artifacts: Path, target: Path, apart: str) -> list[str]:
    """Copy artifacts outside of their folder, and return everything named that is not in the backup."""
    missing = list[str]()
    for owner, location, names in named:
        source, place = find_place(location, artifacts)
        if source is None:
            if not location.startswith("models:") and not (apart and location.startswith(apart)):
                missing.append(f"{owner}: {location} is not on this machine")
            continue
        if not source.is_relative_to(artifacts) and not (target / place).exists():
            copy_tree(source, target / place)
        missing += [f"{owner}: {source / name}" for name in names if not (target / place / name).exists()]
    return list(dict.fromkeys(missing))


if __name__ == "__main__":
    main()

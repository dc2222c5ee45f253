"""backup: databases and artifacts -> a folder, and back. `python3 -m backup.run save` and `... restore --from FOLDER`.

Needs Python alone (and PostgreSQL's client programs for its databases), so that it runs where nothing else does.

In what order, and why the copy is whole although everything goes on meanwhile: each database is copied as of one
moment, and what refers to something else before that to which it refers. A prediction names a model version, so the
prediction log goes first; a run names its artifacts, which are there before the run says that it is finished, so the
artifacts go last. What was added meanwhile is more than is referred to, and does no harm. A restore goes the other way.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from types import ModuleType

from backup import manifest, postgres, sqlite
from backup.errors import BackupError, BackupUnfit, SourceUnreadable, TargetUnfit
from backup.manifest import Database, Manifest, sha256_of

ROOT = Path(__file__).resolve().parents[1]
ARTIFACTS = "artifacts"
ASIDE = ".before-"
DATABASES = "BACKUP_DATABASES"
"""NAME=ADDRESS, separated by blanks, in the order in which they are saved: who refers to others first."""

KINDS: dict[str, ModuleType] = {"sqlite": sqlite, "postgresql": postgres}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="backup", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--databases", default=os.environ.get(DATABASES), help="NAME=ADDRESS ...; default: the files here"
    )
    parser.add_argument("--artifacts", default=os.environ.get("BACKUP_ARTIFACTS", str(ROOT / "mlruns")))
    verbs = parser.add_subparsers(dest="verb", required=True)
    save = verbs.add_parser("save", help="make a backup")
    save.add_argument("--to", default=os.environ.get("BACKUP_TO", str(ROOT / "backups")))
    restore = verbs.add_parser("restore", help="put a backup in place")
    restore.add_argument("--from", dest="source", required=True, help="a folder that `save` made")
    restore.add_argument("--replace", action="store_true", help="even where there is something already")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    try:
        databases = databases_of(args.databases)
        if args.verb == "save":
            print(save(databases, Path(args.artifacts), Path(args.to)))
        else:
            print(restore(databases, Path(args.artifacts), Path(args.source), args.replace))
    except BackupError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except OSError as error:
        sys.exit(f"BackupFailed: {error.filename or ''}: {error.strerror}. Nothing that was there before has changed.")


def databases_of(given: str | None) -> dict[str, tuple[str, str]]:
    """Return kind and address of each database by its name; those of this folder where none are given."""
    if not given:
        log = os.environ.get("PREDICTION_LOG_URL") or "sqlite:///predictions.db"
        tracking = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
        given = f"predictions={log} mlflow={tracking}"
    return {
        name: _kind_and_address(name, address) for name, _, address in (one.partition("=") for one in given.split())
    }


def _kind_and_address(name: str, address: str) -> tuple[str, str]:
    scheme, _, place = address.partition("://")
    kind = scheme.partition("+")[0]
    if kind == "sqlite":
        return kind, str((ROOT / place.removeprefix("/")).resolve())
    if kind == "postgresql":
        return kind, f"{kind}://{place}"
    raise SourceUnreadable(
        f"{name} is at {scheme}://..., which is no database. Name one that is: {DATABASES}='{name}=sqlite:///FILE'. "
        "A server's databases are saved where the server runs (in the stack: make stack-backup)."
    )


def _free_name(wanted: Path) -> Path:
    """Return the name, or with a number behind it where a backup of the same second has it."""
    names = (wanted.with_name(f"{wanted.name}-{number}") for number in count(2))
    return wanted if not wanted.exists() else next(name for name in names if not name.exists())


def save(databases: dict[str, tuple[str, str]], artifacts: Path, to: Path) -> str:
    """Make a backup below `to`; it has its name only when it is whole. Returns what was saved, in words."""
    moment = datetime.now(UTC)
    target = _free_name(to / moment.strftime("%Y-%m-%dT%H-%M-%SZ"))
    partial = target.with_name(f"{target.name}.partial")
    partial.mkdir(parents=True)
    try:
        found = {name: _save_one(name, *place, partial) for name, place in databases.items() if _is_there(name, *place)}
        if not found:
            raise SourceUnreadable("there is no database to save yet. Run the pipeline once: make run")
        files = {one.file: sha256_of(partial / one.file) for one in found.values()}
        files |= copy_tree(artifacts, partial / ARTIFACTS)
        Manifest(manifest.FORMAT, moment.isoformat(), manifest.made_by(), found, files).write(partial)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    rows = ", ".join(f"{name} {sum(one.rows.values()):,} rows" for name, one in found.items())
    return f"{target}: {rows}, {len(files) - len(found):,} artifacts"


def _is_there(name: str, kind: str, address: str) -> bool:
    """A prediction log that nobody has written to yet is no reason to save nothing."""
    return kind != "sqlite" or Path(address).is_file()


def _save_one(name: str, kind: str, address: str, folder: Path) -> Database:
    file = name + KINDS[kind].ENDING
    if kind == "sqlite":
        sqlite.save(address, folder / file)
        rows, versions = sqlite.facts(str(folder / file))
    else:
        rows, versions = postgres.save(address, folder / file)
    return Database(kind, file, rows, versions)


def copy_tree(source: Path, target: Path) -> dict[str, str]:
    """Copy a folder that changes meanwhile; return each file's sha256 by its path in the backup.

    A file that vanishes while the folder is read belongs to a run that was deleted, or was a temporary one.
    """
    digests = {}
    for path in sorted(one for one in source.rglob("*") if one.is_file() and not _is_aside(one.relative_to(source))):
        copied = target / path.relative_to(source)
        copied.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            shutil.copy2(path, copied)
            digests[f"{ARTIFACTS}/{path.relative_to(source).as_posix()}"] = sha256_of(copied)
    return digests


def _is_aside(path: Path) -> bool:
    """Whether an earlier restore put this aside."""
    return path.parts[0].startswith(ASIDE)


def restore(databases: dict[str, tuple[str, str]], artifacts: Path, source: Path, replace: bool) -> str:
    """Put a backup in place. Everything is looked at before anything is changed.

    Raises:
        BackupUnfit: not finished, damaged, made by newer code, or of other databases.
        TargetUnfit: in use, or not empty while `replace` is not said.
    """
    known = manifest.read(source)
    manifest.expect_whole(source, known)
    manifest.expect_readable(known)
    for name, one in known.databases.items():
        if databases.get(name, ("", ""))[0] != one.kind:
            raise BackupUnfit(
                f"the backup has a {one.kind} database '{name}', and none is named here. See {DATABASES}."
            )
        KINDS[one.kind].expect_ready(databases[name][1], replace)
    if artifacts.is_dir() and any(artifacts.iterdir()) and not replace:
        raise TargetUnfit(f"{artifacts} is not empty. Type replace=yes to put it aside and restore over it.")
    aside = f"{ASIDE}{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}"
    restore_tree(source / ARTIFACTS, artifacts, aside)
    for name, one in reversed(known.databases.items()):
        KINDS[one.kind].restore(source / one.file, databases[name][1], aside)
        _expect_equal(name, one, KINDS[one.kind].facts(databases[name][1]))
    files = len(known.files) - len(known.databases)
    return f"restored {', '.join(known.databases)} and {files:,} artifacts, as of {known.made}; every row is counted"


def restore_tree(source: Path, target: Path, aside: str) -> None:
    """Put a folder in place, and what was in it into a folder of its own in there: a volume cannot be renamed."""
    target.mkdir(parents=True, exist_ok=True)
    old = [path for path in target.iterdir() if not _is_aside(path.relative_to(target))]
    if old:
        (target / aside).mkdir()
        for path in old:
            path.rename(target / aside / path.name)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    _give_to_owner(target)


def _give_to_owner(folder: Path) -> None:
    """What root restores belongs to whoever the folder belongs to."""
    owner = folder.stat()
    if os.geteuid() == 0:
        for path in folder.rglob("*"):
            os.chown(path, owner.st_uid, owner.st_gid)


def _expect_equal(name: str, saved: Database, found: tuple[dict[str, int], dict[str, str]]) -> None:
    if found != (saved.rows, saved.versions):
        wrong = [table for table in saved.rows if found[0].get(table) != saved.rows[table]]
        raise BackupUnfit(f"{name} does not hold after the restore what was saved: {', '.join(wrong) or found[1]}")


if __name__ == "__main__":
    main()

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
from backup.errors import BackupError, BackupUnfit, RestoreUnfinished, SourceUnreadable, TargetUnfit
from backup.manifest import Database, Manifest, sha256_of
from backup.stores import DATABASES, ROOT, databases_of
from backup.undo import Undo

ARTIFACTS = "artifacts"
ASIDE = ".before-"
KINDS: dict[str, ModuleType] = {"sqlite": sqlite, "postgresql": postgres}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="backup", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--databases", default=os.environ.get(DATABASES), help="NAME=ADDRESS ...; default: what config.yaml names"
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
        sys.exit(f"BackupFailed: {in_words(error)}. Nothing that was there before has changed.")


def in_words(error: BaseException) -> str:
    """Return what an error says. That of shutil.copytree is a list, with source, target and reason of each file."""
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
        (*_, reason), *others = error.args[0]
        return f"{reason}{f', and {len(others):,} more like it' if others else ''}"
    return str(error) or type(error).__name__


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
    missing = [
        f"\nnot in it: {name}, since there is no file {databases[name][1]}" for name in databases if name not in found
    ]
    return f"{target}: {rows}, {len(files) - len(found):,} artifacts{''.join(missing)}"


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
        RestoreUnfinished: it failed later, and not all of what was there before could be put back.
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
    undo = Undo(f"{ASIDE}{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}")
    try:
        restore_tree(source / ARTIFACTS, artifacts, undo)
        for name, one in reversed(known.databases.items()):
            KINDS[one.kind].restore(source / one.file, databases[name][1], undo)
            _expect_equal(name, one, KINDS[one.kind].facts(databases[name][1]))
    except BaseException as error:
        undo.run()
        if remains := undo.remains():
            raise RestoreUnfinished(f"{in_words(error)}. {remains}Mend that, and restore again.") from error
        raise
    files = len(known.files) - len(known.databases)
    return f"restored {', '.join(known.databases)} and {files:,} artifacts, as of {known.made}; every row is counted"


def restore_tree(source: Path, target: Path, undo: Undo) -> None:
    """Put a folder in place, and what was in it into a folder of its own in there: a volume cannot be renamed."""
    target.mkdir(parents=True, exist_ok=True)
    old = [path for path in target.iterdir() if not _is_aside(path.relative_to(target))]
    if old:
        undo.make_folder(target / undo.aside)
        for path in old:
            undo.move(path, target / undo.aside / path.name)
    if source.is_dir():
        for path in source.iterdir():
            undo.will_make(target / path.name)
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

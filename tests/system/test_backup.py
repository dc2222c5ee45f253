"""Backups: whole while others write, restored to the last row and byte, refused when they are not whole."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from mlflow import MlflowClient

from stepkit.places import ROOT
from tests.servers import postgres_binary, wait_until
from tests.system.prediction_logs import asked, ids, new_database, opened, write

RUNS = 3


class Place:
    """A small installation of its own: runs with artifacts, a prediction log, and the command that saves them."""

    def __init__(self, folder: Path, log: str) -> None:
        self.folder = folder
        self.artifacts = folder / "mlruns"
        self.tracking = folder / "mlflow.db"
        self.log = log

    def fill(self, runs: Path) -> None:
        """Take over runs made elsewhere, so that no process has this database open; write a few predictions."""
        shutil.copy(runs / "mlflow.db", self.tracking)
        shutil.copytree(runs / "mlruns", self.artifacts)
        with opened(self.log) as log:
            write(log, "a", "b", "c")

    def command(self, *words: str, root: Path = ROOT, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the program with a Python that has nothing installed, as in the container."""
        databases = f"predictions={self.log} mlflow=sqlite:///{self.tracking}"
        given = ["--databases", databases, "--artifacts", str(self.artifacts)]
        bare = [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path[:0] = [{str(root)!r}]; import backup.run as r; r.main()",
        ]
        binaries = Path(postgres_binary("pg_dump")).parent
        env = {"PATH": f"{binaries}:/usr/bin:/bin"}
        return subprocess.run([*bare, *given, *words], capture_output=True, text=True, env=env, timeout=120, **options)

    def save(self) -> Path:
        ended = self.command("save", "--to", str(self.folder / "backups"))
        assert ended.returncode == 0, ended.stderr
        return Path(ended.stdout.split(": ")[0])

    def wipe(self) -> None:
        self.tracking.unlink()
        shutil.rmtree(self.artifacts)
        if self.log.startswith("sqlite"):
            Path(self.log.removeprefix("sqlite:///")).unlink()
        else:
            with psycopg.connect(self.log, autocommit=True) as connection:
                connection.execute("DROP SCHEMA public CASCADE")
                connection.execute("CREATE SCHEMA public")

    def digests(self) -> dict[str, str]:
        files = [path for path in self.artifacts.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.artifacts)): sha256(path) for path in files}

    def rows(self) -> dict[str, int]:
        with closing(sqlite3.connect(self.tracking)) as connection:
            names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}


def finished_run(client: MlflowClient, experiment: str, number: int) -> str:
    """A run as every step makes one: artifacts first, the word that it is finished last."""
    run = client.create_run(experiment).info.run_id
    client.log_metric(run, "value", number)
    client.log_dict(run, {"number": number, "text": "x" * 5000}, "result.json")
    client.set_terminated(run)
    return str(run)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def made_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a few finished runs; making a new store of MLflow's takes seconds."""
    folder = tmp_path_factory.mktemp("runs")
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.create_experiment("saved", artifact_location=(folder / "mlruns").as_uri())
    for number in range(RUNS):
        finished_run(client, experiment, number)
    return folder


@pytest.fixture
def place(made_runs: Path, tmp_path: Path, log_at: str) -> Place:
    """Once with the log in SQLite, once in PostgreSQL."""
    made = Place(tmp_path, log_at)
    made.fill(made_runs)
    return made


@pytest.fixture
def files_only(made_runs: Path, tmp_path: Path) -> Place:
    made = Place(tmp_path, f"sqlite:///{tmp_path / 'log.db'}")
    made.fill(made_runs)
    return made


def test_what_was_wiped_comes_back_to_the_last_row_and_byte(place: Place) -> None:
    rows, files, predictions = place.rows(), place.digests(), ids(place.log)
    saved = place.save()
    place.wipe()
    restored = place.command("restore", "--from", str(saved))
    assert restored.returncode == 0, restored.stderr
    assert "restored predictions, mlflow and 3 artifacts" in restored.stdout
    assert (place.rows(), place.digests(), ids(place.log)) == (rows, files, predictions)
    assert asked(place.log, "SELECT version_num FROM prediction_log_version") == [("2",)]


def test_a_backup_made_amid_writing_lacks_nothing_that_it_speaks_of(files_only: Place) -> None:
    """Writers add runs and predictions all the while; every finished run of the copy has its artifacts in the copy."""
    stop = threading.Event()
    client = MlflowClient(f"sqlite:///{files_only.tracking}")
    experiment = client.create_experiment("busy", artifact_location=files_only.artifacts.as_uri())

    def add_runs() -> None:
        number = RUNS
        while not stop.is_set():
            finished_run(client, experiment, number := number + 1)

    writer = threading.Thread(target=add_runs)
    writer.start()
    wait_until(lambda: len(list(files_only.artifacts.iterdir())) > RUNS, "the first run is written")
    try:
        copies = [files_only.save() for _ in range(2)]
    finally:
        stop.set()
        writer.join(60)
    assert len(list((copies[1] / "artifacts").iterdir())) > RUNS, "nothing was written meanwhile"
    for copy in copies:
        with closing(sqlite3.connect(copy / "mlflow.sqlite")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            chosen = "SELECT run_uuid FROM runs WHERE status = 'FINISHED' AND experiment_id = ?"
            found = connection.execute(chosen, (experiment,)).fetchall()
        lacking = [run for (run,) in found if not (copy / "artifacts" / run / "artifacts" / "result.json").is_file()]
        assert lacking == []


def cut_off(saved: Path) -> None:
    (saved / "manifest.json").unlink()


def damaged(saved: Path) -> None:
    with (saved / "mlflow.sqlite").open("r+b") as file:
        file.seek(5000)
        file.write(b"!")


def lost(saved: Path) -> None:
    next((saved / "artifacts").rglob("result.json")).unlink()


def changed(saved: Path, change: Callable[[dict[str, object]], None]) -> None:
    manifest = json.loads((saved / "manifest.json").read_text())
    change(manifest)
    (saved / "manifest.json").write_text(json.dumps(manifest))


def of_the_future(saved: Path) -> None:
    changed(saved, lambda manifest: manifest.update(format=99))


def of_newer_mlflow(saved: Path) -> None:
    changed(saved, lambda manifest: manifest.update(made_by={"mlflow": "99.0.0"}))


def of_a_newer_log(saved: Path) -> None:
    def newer(manifest: dict[str, object]) -> None:
        manifest["databases"]["predictions"]["versions"]["prediction_log_version"] = "99"  # type: ignore[index]

    changed(saved, newer)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (cut_off, "is no finished backup: it has no manifest.json, which is written last"),
        (damaged, "is not as it was written (its sha256 differs)"),
        (lost, "is missing from the backup"),
        (of_the_future, "has format 99, and this code reads 1"),
        (of_newer_mlflow, "was made with mlflow 99.0.0, this code has"),
        (of_a_newer_log, "has schema 99, this code knows none newer than 2"),
    ],
)
def test_what_is_no_whole_backup_is_refused_and_nothing_changes(
    files_only: Place, fault: Callable[[Path], None], message: str
) -> None:
    saved = files_only.save()
    fault(saved)
    rows, files = files_only.rows(), files_only.digests()
    refused = files_only.command("restore", "--from", str(saved), "--replace")
    assert refused.returncode == 1
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr
    assert (files_only.rows(), files_only.digests()) == (rows, files)


def test_what_is_there_is_overwritten_only_when_that_is_said_and_is_kept_aside(files_only: Place) -> None:
    saved = files_only.save()
    refused = files_only.command("restore", "--from", str(saved))
    assert (refused.returncode, "Type replace=yes" in refused.stderr) == (1, True)
    restored = files_only.command("restore", "--from", str(saved), "--replace")
    assert restored.returncode == 0, restored.stderr
    assert len(list(files_only.folder.glob("mlflow.db.before-*"))) == 1
    assert len(list(files_only.artifacts.glob(".before-*"))) == 1


def test_a_database_in_use_is_not_pulled_from_under_its_users(files_only: Place) -> None:
    saved = files_only.save()
    with closing(sqlite3.connect(files_only.tracking)) as connection:
        connection.execute("SELECT count(*) FROM runs").fetchone()
        refused = files_only.command("restore", "--from", str(saved), "--replace")
    assert refused.returncode == 1
    assert "is in use by process" in refused.stderr


def test_a_backup_that_fails_leaves_nothing_behind(files_only: Place) -> None:
    files_only.tracking.write_bytes(b"no database at all, but long enough to be looked at")
    refused = files_only.command("save", "--to", str(files_only.folder / "backups"))
    assert refused.returncode == 1
    assert "SourceUnreadable" in refused.stderr
    assert list((files_only.folder / "backups").iterdir()) == []


def test_a_wrong_password_is_told_with_the_variable_to_set(files_only: Place, log_server: str) -> None:
    address = new_database(log_server).replace("tester@", "nobody_here:secret@")
    files_only.log = address
    refused = files_only.command("save", "--to", str(files_only.folder / "backups"))
    assert refused.returncode == 1
    assert "PGPASSWORD is its password" in refused.stderr
    assert "secret" not in refused.stderr


def restored_in_vain(place: Place, saved: Path, *words: str, **options: Any) -> str:
    """Try to restore over what is there; return what is said of the failure."""
    failed = place.command(*words, "restore", "--from", str(saved), "--replace", **options)
    assert failed.returncode == 1, failed.stdout
    assert "Traceback" not in failed.stderr
    return failed.stderr


def hinder(database: str | Path) -> None:
    """Have a folder where the restore of an SQLite database writes first."""
    Path(f"{database}.partial").mkdir()


def write_no_large_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))


def lies_aside(place: Place) -> list[Path]:
    return [*place.folder.glob("*.before-*"), *place.artifacts.glob(".before-*")]


def test_a_restore_whose_last_database_fails_puts_everything_back(files_only: Place) -> None:
    saved = files_only.save()
    with opened(files_only.log) as log:
        write(log, "later")
    next(files_only.artifacts.rglob("result.json")).write_text("later")
    before = files_only.rows(), files_only.digests(), ids(files_only.log)
    hinder(files_only.folder / "log.db")
    (files_only.folder / "log.db.partial" / "somebodys").touch()
    told = restored_in_vain(files_only, saved)
    assert "Is a directory" in told
    assert "Nothing that was there before has changed" in told
    assert (files_only.rows(), files_only.digests(), ids(files_only.log)) == before
    assert lies_aside(files_only) == []
    assert (files_only.folder / "log.db.partial" / "somebodys").is_file()


def test_a_restore_that_cannot_write_the_artifacts_says_why_and_puts_them_back(files_only: Place) -> None:
    saved, files = files_only.save(), files_only.digests()
    told = restored_in_vain(files_only, saved, preexec_fn=write_no_large_files)
    assert "File too large" in told
    assert f"and {RUNS - 1} more like it. Nothing that was there before has changed" in told
    assert "None" not in told
    assert files_only.digests() == files
    assert lies_aside(files_only) == []


def test_a_restore_that_fails_after_one_into_postgresql_says_what_was_replaced_and_where_the_old_lies(
    made_runs: Path, tmp_path: Path, log_server: str
) -> None:
    place = Place(tmp_path, new_database(log_server))
    place.fill(made_runs)
    order = ("--databases", f"mlflow=sqlite:///{place.tracking} predictions={place.log}")
    ended = place.command(*order, "save", "--to", str(tmp_path / "backups"))
    rows = place.rows()
    hinder(place.tracking)
    told = restored_in_vain(place, Path(ended.stdout.split(": ")[0]), *order)
    assert told.startswith("RestoreUnfinished: ")
    assert f"{place.log} holds the backup by now, with what it refers to" in told
    (aside,) = lies_aside(place)
    assert f"What was there before lies in {aside}." in told
    assert "Nothing that was there" not in told
    assert place.rows() == rows


def test_a_restore_that_postgresql_refuses_puts_everything_back(
    made_runs: Path, tmp_path: Path, log_server: str
) -> None:
    """Its owner alone may drop a schema; everything else is restored by then."""
    place = Place(tmp_path, new_database(log_server))
    place.fill(made_runs)
    saved = place.save()
    with psycopg.connect(place.log, autocommit=True) as connection:
        connection.execute("DO $$ BEGIN CREATE ROLE guest LOGIN; EXCEPTION WHEN duplicate_object THEN END $$")
        connection.execute("GRANT pg_read_all_data TO guest")
    before = place.rows(), place.digests(), ids(place.log)
    place.log = place.log.replace("tester@", "guest@")
    assert "must be owner of schema public" in restored_in_vain(place, saved)
    assert (place.rows(), place.digests(), ids(place.log)) == before
    assert lies_aside(place) == []


def installation(made_runs: Path, root: Path) -> Place:
    """A copy of the program whose configuration names other files than the usual ones."""
    shutil.copytree(ROOT / "backup", root / "backup")
    shutil.copy(made_runs / "mlflow.db", root / "runs.db")
    configuration = "main:\n  mlflow_tracking_url: sqlite:///runs.db\nserve:\n  log_url: sqlite:///mine.db?timeout=20\n"
    (root / "config.yaml").write_text(configuration)
    return Place(root, f"sqlite:///{root / 'mine.db'}")


def test_what_the_configuration_names_is_saved(made_runs: Path, tmp_path: Path) -> None:
    place = installation(made_runs, tmp_path)
    with opened(place.log) as log:
        write(log, "a")
    saved = place.command("--databases", "", "save", "--to", str(tmp_path / "backups"), root=tmp_path)
    assert saved.returncode == 0, saved.stderr
    assert len(saved.stdout.splitlines()) == 1
    databases = json.loads((Path(saved.stdout.split(": ")[0]) / "manifest.json").read_text())["databases"]
    assert databases["predictions"]["rows"]["predictions"] == 1
    assert databases["mlflow"]["rows"]["runs"] == RUNS


def test_a_prediction_log_that_is_not_there_is_said_to_be_missing(made_runs: Path, tmp_path: Path) -> None:
    place = installation(made_runs, tmp_path)
    saved = place.command("--databases", "", "save", "--to", str(tmp_path / "backups"), root=tmp_path)
    assert saved.returncode == 0, saved.stderr
    assert f"not in it: predictions, since there is no file {tmp_path / 'mine.db'}" in saved.stdout

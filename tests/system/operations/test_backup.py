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
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import psycopg
import pytest
from mlflow import MlflowClient

from stepkit.paths import ROOT, make_sqlite_url
from stepkit.store.relocate import relocate_store
from tests.support.prediction_logs import count_ids, create_database, open_log, query_database, write_predictions
from tests.support.servers import find_postgres_binary, wait_until

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
        relocate_store(self.tracking)
        with open_log(self.log) as log:
            write_predictions(log, "a", "b", "c")

    def command(self, *words: str, root: Path = ROOT, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the program with a Python that has nothing installed, as in the container."""
        databases = f"predictions={self.log} mlflow={make_sqlite_url(self.tracking)}"
        given = ["--databases", databases, "--artifacts", str(self.artifacts)]
        code = f"import sys; sys.path[:0] = [{str(root)!r}]; import backup.run as r; r.main()"
        bare = [sys.executable, "-I", "-S", "-c", code]
        binaries = Path(find_postgres_binary("pg_dump")).parent
        env = {"PATH": f"{binaries}:/usr/bin:/bin"}
        return subprocess.run([*bare, *given, *words], capture_output=True, text=True, env=env, timeout=120, **options)

    def save(self) -> Path:
        ended = self.command("save", "--to", str(self.folder / "backups"))
        assert ended.returncode == 0, ended.stderr
        return Path(ended.stdout.split(": ")[0])

    def save_in_vain(self) -> str:
        """Try to save; return what is said of the failure, which leaves nothing behind."""
        ended = self.command("save", "--to", str(self.folder / "backups"))
        assert ended.returncode == 1
        assert [*(self.folder / "backups").iterdir()] == []
        return ended.stderr

    def restore(self, saved: Path, *words: str) -> str:
        ended = self.command(*words, "restore", "--from", str(saved))
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def state(self) -> tuple[object, ...]:
        """Everything that a restore brings back: rows of the runs, artifacts, predictions."""
        return self.rows(), self.digests(), count_ids(self.log)

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
    client.set_tag(run, "output.result.json", "sha256:...")
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
    before = place.state()
    saved = place.save()
    place.wipe()
    assert "restored predictions, mlflow and 3 artifacts" in place.restore(saved)
    assert place.state() == before
    assert query_database(place.log, "SELECT version_num FROM prediction_log_version") == [("2",)]


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


def changed(saved: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((saved / "manifest.json").read_text())
    change(manifest)
    (saved / "manifest.json").write_text(json.dumps(manifest))


NEWER: dict[str, Callable[[dict[str, Any]], object]] = {
    "unknown format (found 99, expected one of (1, 2))": lambda manifest: manifest.update(format=99),
    "made with a newer mlflow (found 99.0.0, this code has": lambda manifest: manifest.update(
        made_by={"mlflow": "99.0.0"}
    ),
    "made with a newer prediction_log_version (found 99, this code has 2)": lambda manifest: manifest["databases"][
        "predictions"
    ].update(versions={"prediction_log_version": "99"}),
}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (cut_off, "not a finished backup (manifest.json is missing)"),
        (damaged, "damaged (its sha256 differs)"),
        (lost, "result.json: missing"),
        *((partial(changed, change=change), message) for message, change in NEWER.items()),
    ],
)
def test_what_is_no_whole_backup_is_refused_and_nothing_changes(
    files_only: Place, fault: Callable[[Path], None], message: str
) -> None:
    saved = files_only.save()
    fault(saved)
    before = files_only.state()
    assert message in restored_in_vain(files_only, saved)
    assert files_only.state() == before


def test_what_is_there_is_overwritten_only_when_that_is_said_and_is_kept_aside(files_only: Place) -> None:
    saved = files_only.save()
    refused = files_only.command("restore", "--from", str(saved))
    assert (refused.returncode, "replace=yes" in refused.stderr) == (1, True)
    restored = files_only.command("restore", "--from", str(saved), "--replace")
    assert restored.returncode == 0, restored.stderr
    assert len(list(files_only.folder.glob("mlflow.db.before-*"))) == 1
    assert len(list(files_only.artifacts.glob(".before-*"))) == 1


def test_a_database_in_use_is_not_pulled_from_under_its_users(files_only: Place) -> None:
    saved = files_only.save()
    with closing(sqlite3.connect(files_only.tracking)) as connection:
        connection.execute("SELECT count(*) FROM runs").fetchone()
        assert ": in use by process" in restored_in_vain(files_only, saved)


def test_a_backup_that_fails_leaves_nothing_behind(files_only: Place) -> None:
    files_only.tracking.write_bytes(b"no database at all, but long enough to be looked at")
    assert "SourceUnreadable" in files_only.save_in_vain()


def test_a_wrong_password_is_told_with_the_variable_to_set(files_only: Place, log_server: str) -> None:
    files_only.log = create_database(log_server).replace("tester@", "nobody_here:secret@")
    told = files_only.save_in_vain()
    assert "PGPASSWORD is correct" in told
    assert "secret" not in told


def restored_in_vain(place: Place, saved: Path, *words: str, **options: Any) -> str:
    """Try to restore over what is there; return what is said of the failure."""
    failed = place.command(*words, "restore", "--from", str(saved), "--replace", **options)
    assert failed.returncode == 1, failed.stdout
    assert "Traceback" not in failed.stderr
    return failed.stderr


def write_no_large_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))


def lies_aside(place: Place) -> list[Path]:
    return [*place.folder.glob("*.before-*"), *place.artifacts.glob(".before-*")]


def test_a_restore_that_cannot_write_a_database_changes_nothing(files_only: Place) -> None:
    saved = files_only.save()
    with open_log(files_only.log) as log:
        write_predictions(log, "later")
    next(files_only.artifacts.rglob("result.json")).write_text("later")
    before = files_only.state()
    (files_only.folder / "file").touch()
    log_of_before, files_only.log = files_only.log, f"sqlite:///{files_only.folder / 'file' / 'log.db'}"
    assert "Existing data are unchanged" in restored_in_vain(files_only, saved)
    files_only.log = log_of_before
    assert files_only.state() == before
    assert lies_aside(files_only) == []


def test_a_restore_that_cannot_write_the_artifacts_says_why_and_puts_them_back(files_only: Place) -> None:
    saved, files = files_only.save(), files_only.digests()
    told = restored_in_vain(files_only, saved, preexec_fn=write_no_large_files)
    assert "File too large" in told
    assert "Existing data are unchanged" in told
    assert files_only.digests() == files
    assert lies_aside(files_only) == []


def test_a_restore_that_fails_after_one_into_postgresql_says_what_was_replaced_and_where_the_old_lies(
    made_runs: Path, tmp_path: Path, log_server: str
) -> None:
    place = Place(tmp_path, create_database(log_server))
    place.fill(made_runs)
    forbidden = create_database(log_server)
    with psycopg.connect(forbidden, autocommit=True) as connection:
        connection.execute("CREATE TABLE things (n integer)")
        make_guest(connection)
    databases = f"other={forbidden} predictions={place.log} mlflow=sqlite:///{place.tracking}"
    ended = place.command("--databases", databases, "save", "--to", str(tmp_path / "backups"))
    databases = databases.replace(forbidden, forbidden.replace("tester@", "guest@"))
    told = restored_in_vain(place, Path(ended.stdout.split(": ")[0]), "--databases", databases)
    assert told.startswith("RestoreUnfinished: ")
    assert "Replaced permanently: predictions" in told
    assert all(str(path) in told for path in lies_aside(place))
    assert len(lies_aside(place)) == 2


def make_guest(connection: psycopg.Connection[Any]) -> None:
    """An account that may read everything, and replace nothing."""
    connection.execute("DO $$ BEGIN CREATE ROLE guest LOGIN; EXCEPTION WHEN duplicate_object THEN END $$")
    connection.execute("GRANT pg_read_all_data TO guest")


def test_a_restore_that_postgresql_refuses_puts_everything_back(
    made_runs: Path, tmp_path: Path, log_server: str
) -> None:
    """Its owner alone may drop a schema; everything else is restored by then."""
    place = Place(tmp_path, create_database(log_server))
    place.fill(made_runs)
    saved = place.save()
    with psycopg.connect(place.log, autocommit=True) as connection:
        make_guest(connection)
    before = place.state()
    place.log = place.log.replace("tester@", "guest@")
    assert "must be owner of schema public" in restored_in_vain(place, saved)
    assert place.state() == before
    assert lies_aside(place) == []


def installation(made_runs: Path, root: Path) -> Place:
    """A copy of the program whose configuration names other files than the usual ones."""
    shutil.copytree(ROOT / "backup", root / "backup")
    shutil.copytree(ROOT / "stepkit", root / "stepkit")
    shutil.copy(made_runs / "mlflow.db", root / "runs.db")
    configuration = "main:\n  mlflow_tracking_url: sqlite:///runs.db\nserve:\n  log_url: sqlite:///mine.db?timeout=20\n"
    (root / "config.yaml").write_text(configuration)
    return Place(root, f"sqlite:///{root / 'mine.db'}")


def save_as_configured(root: Path) -> str:
    command = [sys.executable, "-m", "backup.run", "save"]
    ended = subprocess.run(command, cwd=root, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_what_the_configuration_names_is_saved(made_runs: Path, tmp_path: Path) -> None:
    place = installation(made_runs, tmp_path)
    with open_log(place.log) as log:
        write_predictions(log, "a")
    folder = Path(save_as_configured(tmp_path).split(": ")[0])
    assert query_database(f"sqlite:///{folder / 'predictions.sqlite'}", "SELECT count(*) FROM predictions") == [(1,)]
    assert query_database(f"sqlite:///{folder / 'mlflow.sqlite'}", "SELECT count(*) FROM runs") == [(RUNS,)]


def test_artifacts_are_restored_next_to_the_store_wherever_that_is(champion: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    shutil.copytree(champion, away)
    relocate_store(away / "mlflow.db")
    databases = ["--databases", f"mlflow=sqlite:///{away / 'mlflow.db'}", "--artifacts", ""]
    place = Place(away, "")
    saved = Path(place.command(*databases, "save", "--to", str(tmp_path)).stdout.split(": ")[0])
    away.rename(tmp_path / "gone")
    place.restore(saved, *databases)
    assert (away / "mlruns" / "1" / "models" / "m-1" / "artifacts" / "MLmodel").is_file()


def test_a_configuration_that_python_alone_cannot_read_is_not_guessed(made_runs: Path, tmp_path: Path) -> None:
    place = installation(made_runs, tmp_path)
    refused = place.command("--databases", "", "save", "--to", str(tmp_path / "backups"), root=tmp_path)
    assert refused.returncode == 1
    assert "config.yaml: serve.log_url: cannot be read" in refused.stderr
    assert "BACKUP_DATABASES=" in refused.stderr


def test_a_prediction_log_that_is_not_there_is_said_to_be_missing(made_runs: Path, tmp_path: Path) -> None:
    installation(made_runs, tmp_path)
    assert f"not saved: predictions: no file {tmp_path / 'mine.db'}" in save_as_configured(tmp_path)


def test_a_file_that_a_store_names_and_that_is_lost_is_named_and_the_rest_is_kept(files_only: Place) -> None:
    file = next(files_only.artifacts.rglob("result.json"))
    file.unlink()
    ended = files_only.command("save", "--to", str(files_only.folder / "backups"))
    assert ended.returncode == 1
    assert ended.stderr.startswith("BackupIncomplete: ")
    assert f"{file.parents[1].name}: " in ended.stderr
    (folder,) = (files_only.folder / "backups").iterdir()
    assert folder.name.endswith(".incomplete")
    assert "Missing from the backup: 1 file," in restored_in_vain(files_only, folder)


@pytest.mark.parametrize("content", ["", "CREATE TABLE x (a)"], ids=["empty", "another database"])
def test_a_file_that_is_not_a_store_is_not_saved_as_one(content: str, files_only: Place) -> None:
    files_only.tracking.unlink()
    with closing(sqlite3.connect(files_only.tracking)) as connection:
        connection.executescript(content)
    files_only.tracking.touch()
    assert f"mlflow: {files_only.tracking} has no table" in files_only.save_in_vain()


def test_artifacts_on_a_server_are_missing_unless_they_are_said_to_have_a_backup(files_only: Place) -> None:
    with closing(sqlite3.connect(files_only.tracking)) as connection, connection:
        connection.execute("UPDATE runs SET artifact_uri = 's3://bucket/' || run_uuid")
    to = ["save", "--to", str(files_only.folder / "backups")]
    assert "s3://bucket/" in files_only.command(*to).stderr
    assert files_only.command("--artifacts", "s3://bucket", *to).returncode == 0


@pytest.mark.parametrize("name", ["set #1", "a?b", "5%23", "feature%2Fx", "it's ü; x&y"])
def test_a_backup_is_whole_whatever_the_path_contains(made_runs: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    place = Place(tmp_path / name, make_sqlite_url(tmp_path / name / "log.db"))
    shutil.copy(made_runs / "mlflow.db", place.tracking)  # its artifacts are elsewhere
    saved = place.save()
    assert query_database(f"sqlite:///{saved / 'mlflow.sqlite'}".replace("%", "%25").replace("?", "%3F"),
                 "SELECT count(*) FROM runs") == [(RUNS,)]  # fmt: skip
    assert len(list((saved / "artifacts").rglob("result.json"))) == RUNS
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store whose champion is a real model, without a pickle."""
    folder = tmp_path_factory.mktemp("champion")
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    client.create_experiment("e", artifact_location=str(folder / "mlruns" / "1"))
    code, model = folder / "code.py", folder / "mlruns" / "1" / "models" / "m-1" / "artifacts"
    code.write_text("import mlflow\nmlflow.models.set_model(lambda table: table)\n")
    mlflow.pyfunc.save_model(model, python_model=str(code), pip_requirements=[])
    client.create_registered_model("m")
    client.create_model_version("m", str(model))
    client.set_registered_model_alias("m", "champion", "1")
    return folder


@pytest.fixture
def with_champion(champion: Path, tmp_path: Path) -> tuple[Place, Path]:
    """A backup of it, and an empty place; the first place is away."""
    first = Place(tmp_path / "first", "")
    first.folder.mkdir()
    first.log = f"sqlite:///{first.folder / 'log.db'}"
    first.fill(champion)
    saved = first.save().rename(tmp_path / "saved")
    first.folder.rename(tmp_path / "away")
    second = tmp_path / "second #1"
    second.mkdir()
    return Place(second, f"sqlite:///{second / 'log.db'}"), saved


def test_a_champion_that_was_restored_elsewhere_loads_from_there(with_champion: tuple[Place, Path]) -> None:
    place, saved = with_champion
    assert "the champion m version 1 loads" in place.restore(saved)
    locations = "SELECT artifact_location FROM experiments WHERE experiment_id = 1 UNION ALL "
    locations += "SELECT storage_location FROM model_versions"
    assert all(str(place.artifacts) in one for (one,) in query_database(f"sqlite:///{place.tracking}", locations))


def test_a_restore_whose_champion_does_not_load_is_undone(with_champion: tuple[Place, Path]) -> None:
    place, saved = with_champion
    model = next((saved / "artifacts").rglob("MLmodel"))
    model.write_text("flavors: {}\n")
    changed(saved, lambda manifest: manifest["files"].update({str(model.relative_to(saved)): sha256(model)}))
    place.artifacts.mkdir()
    (place.artifacts / "old").touch()
    told = restored_in_vain(place, saved)
    assert "the champion m version 1 does not load from its new place" in told
    assert sorted(path.name for path in place.folder.rglob("*")) == ["mlruns", "old"]


def test_a_backup_of_the_earlier_format_is_restored_elsewhere(with_champion: tuple[Place, Path]) -> None:
    place, saved = with_champion

    def as_before(manifest: dict[str, Any]) -> None:
        for one in manifest["databases"].values():
            one["rows"] = dict.fromkeys(one.pop("tables"), 1)
        manifest.pop("missing")
        manifest["format"] = 1

    changed(saved, as_before)
    assert "the champion m version 1 loads" in place.restore(saved)

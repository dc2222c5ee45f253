"""No acknowledged row is lost if the file of an SQLite log is moved, replaced or damaged while it is in use."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import chain
from pathlib import Path

import pytest
from sqlalchemy import event

from prediction_log.errors import LogDamaged
from prediction_log.files import ASIDE_INFIX
from prediction_log.writer import LogUnavailable, PredictionLog
from serve.http.feedback import Label, record_label
from serve.http.refusals import Refusal
from tests.support.log_writer_process import make_prediction
from tests.support.prediction_logs import open_log, write_predictions

Change = Callable[[Path], object]


def read_ids(folder: Path) -> set[str]:
    """Return the request ids in all SQLite files of a folder."""
    request_ids: set[str] = set()
    for path in [path for path in folder.iterdir() if not path.name.endswith(("-wal", "-shm"))]:
        try:
            with closing(sqlite3.connect(path)) as connection:
                request_ids |= {name for (name,) in connection.execute("SELECT request_id FROM predictions")}
        except sqlite3.DatabaseError:
            assert ASIDE_INFIX in path.name, f"{path} cannot be read"
    return request_ids


def fill(log: PredictionLog, file: Path) -> None:
    """Write half a megabyte to the database file, not only to its -wal; keep a copy of the file from before."""
    write_predictions(log, "first")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint")
        shutil.copy(file, file.with_name("old-copy"))
        rows = [make_prediction("many", row)._replace(features={"text": "x" * 1_000}) for row in range(400)]
        log.submit(rows).result(20)
        connection.execute("PRAGMA wal_checkpoint")


def change_all(file: Path, change: Change) -> None:
    for path in [*file.parent.glob(f"{file.name}*")]:
        change(path)


def move(file: Path) -> None:
    file.rename(file.with_name(f"moved-{file.name}"))


def replace_by_copy(file: Path) -> None:
    shutil.copy(file, file.with_name("copy"))
    file.with_name("copy").replace(file)


def overwrite_pages(file: Path) -> None:
    with file.open("r+b") as opened_file:
        opened_file.seek(2 * 4096)
        opened_file.write(os.urandom(40 * 4096))


CHANGES: dict[str, Change] = {
    "moved": move,
    "moved with all": lambda file: change_all(file, move),
    "removed": os.unlink,
    "removed with all": lambda file: change_all(file, os.unlink),
    "replaced by a copy": replace_by_copy,
    "replaced by an old copy": lambda file: file.with_name("old-copy").replace(file),
    "overwritten by an old copy": lambda file: shutil.copyfile(file.with_name("old-copy"), file),
    "overwritten by a text": lambda file: file.write_text("ID,AGE\n1,24\n"),
    "overwritten in places": overwrite_pages,
    "cut off": lambda file: os.truncate(file, 8192),
    "emptied": lambda file: os.truncate(file, 0),
    "left without its -wal": lambda file: Path(f"{file}-wal").unlink(),
    "left with an empty -wal": lambda file: os.truncate(f"{file}-wal", 0),
    "left with half its -wal": lambda file: os.truncate(f"{file}-wal", Path(f"{file}-wal").stat().st_size // 2),
    "left with a copy of its -wal": lambda file: replace_by_copy(Path(f"{file}-wal")),
}
KEEP_ALL = ("moved", "moved with all")


@pytest.mark.parametrize("within", [False, True], ids=["between commits", "within a commit"])
@pytest.mark.parametrize("change", CHANGES)
def test_what_is_acknowledged_stays_readable_when_the_file_is(change: str, within: bool, log_file: Path) -> None:
    url = f"sqlite:///{log_file}"
    with open_log(url) as log, open_log(url) as other_log:
        fill(log, log_file)
        write_predictions(other_log, "other")
        write_predictions(log, "before")
        if within:
            moments = iter([lambda: CHANGES[change](log_file)])
            event.listen(log.engine, "commit", lambda _: next(moments, bool)())
        else:
            CHANGES[change](log_file)
        write_predictions(log, "at once")
        assert "at once" in read_ids(log_file.parent), "a row is readable as soon as it is acknowledged"
        for number in range(3):
            write_predictions(log, f"a{number}")
            write_predictions(other_log, f"b{number}")
        assert log.get_stats().failed == other_log.get_stats().failed == 0
    acknowledged = {"before", "at once", *chain.from_iterable((f"a{number}", f"b{number}") for number in range(3))}
    before = {"first", "many", "other"} if change in KEEP_ALL else set()
    assert (acknowledged | before) - read_ids(log_file.parent) == set()
    with closing(sqlite3.connect(log_file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("kind", ["removed", "a folder"])
def test_without_a_place_for_the_log_rows_are_refused_until_there_is_one(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    with open_log(f"sqlite:///{folder / 'log.db'}") as log:
        write_predictions(log, "a")
        if kind == "removed":
            shutil.rmtree(folder)
        else:
            (folder / "log.db").unlink()
            (folder / "log.db").mkdir()
        for name in ("b", "c"):
            with pytest.raises(LogUnavailable, match="cannot be used"):
                log.submit([make_prediction(name)]).result(20)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        write_predictions(log, "d")
    assert read_ids(folder) == {"a", "d"}, "the response for row a may not have been sent yet"


def test_a_wal_whose_file_was_moved_while_no_scorer_ran_is_moved_aside(log_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "left"
    folder.mkdir()
    with open_log(f"sqlite:///{log_file}") as log:
        write_predictions(log, "a")
        shutil.copy(log_file, folder / "moved")  # as after a killed scorer
        shutil.copy(f"{log_file}-wal", folder / "log.db-wal")
    with open_log(f"sqlite:///{folder / 'log.db'}") as log:
        write_predictions(log, "b")
    (aside,) = folder.glob(f"log.db{ASIDE_INFIX}*-wal")
    aside.rename(folder / "moved-wal")
    assert read_ids(folder) == {"a", "b"}


def test_a_log_that_was_shortened_by_sqlite_itself_stays_in_use(log_file: Path) -> None:
    with open_log(f"sqlite:///{log_file}") as log:
        fill(log, log_file)
        write_predictions(log, "a")
        size = log_file.stat().st_size
        with closing(sqlite3.connect(log_file, isolation_level=None)) as connection:
            connection.execute("DELETE FROM predictions WHERE request_id = 'many'")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint")
        assert log_file.stat().st_size < size / 2
        write_predictions(log, "b")
    assert not [*log_file.parent.glob(f"*{ASIDE_INFIX}*")]
    assert read_ids(log_file.parent) == {"first", "a", "b"}


def test_a_label_is_not_taken_into_a_file_that_was_removed(log_file: Path) -> None:
    with open_log(f"sqlite:///{log_file}") as log:
        fill(log, log_file)
        write_predictions(log, *(f"n{number}" for number in range(3)))
        log._recent.clear()  # as after a second without predictions
        log_file.unlink()
        with pytest.raises(Refusal) as refusal:
            record_label(log, Label(request_id="n1", row=0, label=1))
        assert refusal.value.status == 404


def test_a_damaged_log_is_refused_at_the_start_and_left_alone(log_file: Path) -> None:
    with open_log(f"sqlite:///{log_file}") as log:
        fill(log, log_file)
    os.truncate(log_file, 8192)
    before = log_file.read_bytes()
    with pytest.raises(LogDamaged, match="not an SQLite database, or damaged"), open_log(f"sqlite:///{log_file}"):
        pass
    assert log_file.read_bytes() == before

"""The file of an SQLite log is moved, replaced or damaged while it is in use: no acknowledged row is lost by that."""

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


def ids_in(folder: Path) -> set[str]:
    """The requests that can be read from any SQLite file of a folder."""
    found: set[str] = set()
    for path in [path for path in folder.iterdir() if not path.name.endswith(("-wal", "-shm"))]:
        try:
            with closing(sqlite3.connect(path)) as connection:
                found |= {name for (name,) in connection.execute("SELECT request_id FROM predictions")}
        except sqlite3.DatabaseError:
            assert ASIDE_INFIX in path.name, f"{path} cannot be read"
    return found


def fill(log: PredictionLog, file: Path) -> None:
    """Write half a megabyte, into the file itself and not only beside it; keep a copy of the file as it was before."""
    write_predictions(log, "first")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint")
        shutil.copy(file, file.with_name("old-copy"))
        rows = [make_prediction("many", row)._replace(features={"text": "x" * 1_000}) for row in range(400)]
        log.submit(rows).result(20)
        connection.execute("PRAGMA wal_checkpoint")


def for_all(file: Path, change: Change) -> None:
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
    "moved with all": lambda file: for_all(file, move),
    "removed": os.unlink,
    "removed with all": lambda file: for_all(file, os.unlink),
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
    address = f"sqlite:///{log_file}"
    with open_log(address) as log, open_log(address) as other:
        fill(log, log_file)
        write_predictions(other, "other")
        write_predictions(log, "before")
        if within:
            moments = iter([lambda: CHANGES[change](log_file)])
            event.listen(log.engine, "commit", lambda _: next(moments, bool)())
        else:
            CHANGES[change](log_file)
        write_predictions(log, "at once")
        assert "at once" in ids_in(log_file.parent), "it can be read as soon as it is acknowledged"
        for number in range(3):
            write_predictions(log, f"a{number}")
            write_predictions(other, f"b{number}")
        assert log.get_stats().failed == other.get_stats().failed == 0
    acknowledged = {"before", "at once", *chain.from_iterable((f"a{number}", f"b{number}") for number in range(3))}
    before = {"first", "many", "other"} if change in KEEP_ALL else set()
    assert (acknowledged | before) - ids_in(log_file.parent) == set()
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
    assert ids_in(folder) == {"a", "d"}, "a was acknowledged shortly before, its answer perhaps not sent"


def test_a_wal_whose_file_was_moved_while_no_scorer_ran_is_moved_aside(log_file: Path, tmp_path: Path) -> None:
    left = tmp_path / "left"
    left.mkdir()
    with open_log(f"sqlite:///{log_file}") as log:
        write_predictions(log, "a")
        shutil.copy(log_file, left / "moved")  # as a killed scorer leaves them
        shutil.copy(f"{log_file}-wal", left / "log.db-wal")
    with open_log(f"sqlite:///{left / 'log.db'}") as log:
        write_predictions(log, "b")
    (aside,) = left.glob(f"log.db{ASIDE_INFIX}*-wal")
    aside.rename(left / "moved-wal")
    assert ids_in(left) == {"a", "b"}


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
    assert ids_in(log_file.parent) == {"first", "a", "b"}


def test_a_label_is_not_taken_into_a_file_that_was_removed(log_file: Path) -> None:
    with open_log(f"sqlite:///{log_file}") as log:
        fill(log, log_file)
        write_predictions(log, *(f"n{number}" for number in range(3)))
        log._recent.clear()  # as after a second without predictions
        log_file.unlink()
        with pytest.raises(Refusal) as refused:
            record_label(log, Label(request_id="n1", row=0, label=1))
        assert refused.value.status == 404


def test_a_damaged_log_is_refused_at_the_start_and_left_alone(log_file: Path) -> None:
    with open_log(f"sqlite:///{log_file}") as log:
        fill(log, log_file)
    os.truncate(log_file, 8192)
    before = log_file.read_bytes()
    with pytest.raises(LogDamaged, match="not an SQLite database, or a damaged one"), open_log(f"sqlite:///{log_file}"):
        pass
    assert log_file.read_bytes() == before

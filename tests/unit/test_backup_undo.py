"""A restore that takes itself back, and says what it could not put back."""

from __future__ import annotations

import shutil
from pathlib import Path

from backup.run import in_words
from backup.undo import Undo


def replaced(folder: Path) -> Undo:
    """A file is put aside and another one takes its place."""
    undo = Undo(".before-now")
    (folder / "a.db").write_text("old")
    undo.move(folder / "a.db", folder / "a.db.before-now")
    undo.will_make(folder / "a.db")
    (folder / "a.db").write_text("new")
    return undo


def test_what_was_there_comes_back_and_what_is_new_goes(tmp_path: Path) -> None:
    undo = replaced(tmp_path)
    undo.run()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.db": "old"}
    assert undo.remains() == ""


def test_what_cannot_be_put_back_is_named(tmp_path: Path) -> None:
    undo = replaced(tmp_path)
    (tmp_path / "a.db").unlink()
    (tmp_path / "a.db" / "in the way").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    undo.move(tmp_path / "b", tmp_path / "a.db" / "in the way" / "b")
    undo.settle("postgresql://host/log")
    undo.run()
    assert undo.remains().startswith("postgresql://host/log holds the backup by now, with what it refers to. ")
    assert f"What was there before lies in {tmp_path / 'a.db.before-now'}" in undo.remains()


def test_an_error_of_many_files_is_told_by_the_first_and_their_number() -> None:
    one = ("from", "to", "[Errno 28] No space left on device: 'to'")
    assert in_words(shutil.Error([one, one, one])) == f"{one[2]}, and 2 more like it"
    assert in_words(OSError(13, "Permission denied", "/x")) == "[Errno 13] Permission denied: '/x'"

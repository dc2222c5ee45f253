"""stepkit.store.model_files: which files of a model are compared, and how a difference is named."""

from __future__ import annotations

from pathlib import Path

from stepkit.store.model_files import differences, digests_in


def test_files_that_loading_adds_do_not_count_wherever_the_model_is(tmp_path: Path) -> None:
    folder = tmp_path / "__pycache__" / "model"
    (folder / "code" / "__pycache__").mkdir(parents=True)
    (folder / "MLmodel").write_text("a")
    (folder / "code" / "__pycache__" / "a.pyc").write_text("b")
    (folder / "code" / "a.py").symlink_to(folder / "MLmodel")
    before = digests_in(folder)
    assert before.keys() == {"MLmodel", "code/a.py"}
    (folder / "MLmodel").write_text("c")
    (folder / "new").touch()
    assert differences(before, digests_in(folder)) == ["MLmodel was altered", "new was added"]

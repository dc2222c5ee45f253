"""Copy of the champion that the workers of one scorer share."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve.http import last_model
from serve.http.shutdown import SUPERVISOR_VARIABLE
from serve.settings import METRICS_FOLDER_VARIABLE


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of a model, in a process that acts as a worker."""
    monkeypatch.setenv(SUPERVISOR_VARIABLE, "1")
    monkeypatch.setenv(METRICS_FOLDER_VARIABLE, str(tmp_path))
    folder = tmp_path / "source"
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "predictor.py").write_text("pass")
    return folder


def get_copy() -> last_model.ModelCopy:
    last = last_model.find_copy()
    assert last
    return last


def test_a_copy_that_another_worker_may_be_loading_stays(source: Path) -> None:
    last_model.save_copy("1", source)
    first = get_copy()
    for place in (source, Path(first.place)):
        (place / "code" / "predictor.pyc").write_text(f"loaded from {place}")
    last_model.save_copy("1", source)
    last_model.save_copy("1", Path(first.place))
    assert get_copy() == first
    assert first.is_intact()


def test_the_next_version_replaces_the_copy(source: Path) -> None:
    last_model.save_copy("1", source)
    first = get_copy()
    last_model.save_copy("2", source)
    assert (get_copy().version, get_copy().is_intact()) == ("2", True)
    assert not first.is_intact()
    assert not Path(first.place).exists()


def test_an_altered_copy_is_not_intact_and_is_replaced(source: Path) -> None:
    last_model.save_copy("1", source)
    (Path(get_copy().place) / "code" / "predictor.py").write_text("raise SystemExit")
    assert not get_copy().is_intact()
    last_model.save_copy("1", source)
    assert get_copy().is_intact()


def test_a_scorer_of_one_process_keeps_no_copy(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SUPERVISOR_VARIABLE)
    last_model.save_copy("1", source)
    assert last_model.find_copy() is None

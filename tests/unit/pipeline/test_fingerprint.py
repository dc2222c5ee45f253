"""pipeline.reuse.fingerprint: what invalidates finished work, and how that is said."""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.reuse import fingerprint
from pipeline.reuse.fingerprint import compute_code_parts, compute_key, describe_differences, flatten
from pipeline.steps import BY_NAME
from stepkit.paths import ROOT

FOLDERS = ("preprocess", "random_forest", "check_data", "stepkit")


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of some folders of the repository, to be changed."""
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    for cached in (fingerprint._find_reached_files, fingerprint._find_imported_files, fingerprint._compute_file_digest):
        cached.cache_clear()


def changed_by(copy: Path, step: str, file: str, text: str, *packed: str) -> list[str]:
    """What is said of `step` after `text` was appended to a file."""
    before = compute_code_parts(step, *packed)
    with (copy / file).open("a", encoding="utf-8", newline="") as target:
        target.write(text)
    forget()
    return describe_differences(before, compute_code_parts(step, *packed))


@pytest.mark.parametrize(
    ("step", "file"),
    [
        ("preprocess", "preprocess/run.py"),
        ("preprocess", "preprocess/conda.yml"),
        ("preprocess", "preprocess/MLproject"),
        ("preprocess", "stepkit/step/artifacts.py"),  # imported by it
        ("preprocess", "stepkit/table/columns.py"),  # imported by what it imports
        ("check_data", "check_data/data_tests.py"),  # which pytest runs by its path
        ("random_forest", "random_forest/predictor.py"),  # as MLflow does
    ],
)
def test_every_file_that_a_step_executes_counts(copy: Path, step: str, file: str) -> None:
    assert changed_by(copy, step, file, "\n# another word\n") == [f"{file} changed"]


@pytest.mark.parametrize("file", ["stepkit/model/plots.py", "stepkit/table/split.py", "random_forest/run.py"])
def test_what_it_does_not_import_does_not_count(copy: Path, file: str) -> None:
    assert changed_by(copy, "preprocess", file, "\n# another word\n") == []


def test_what_is_packed_into_the_model_counts(copy: Path) -> None:
    packed = copy / "prediction_log" / "writer.py"
    packed.parent.mkdir(parents=True)
    packed.write_text("one = 1\n")
    said = changed_by(copy, "random_forest", "prediction_log/writer.py", "two = 2\n", *BY_NAME["random_forest"].packs)
    assert said == ["prediction_log/writer.py changed"]


def test_a_new_import_brings_its_file_in_and_line_ends_do_not_count(copy: Path) -> None:
    path, before = copy / "preprocess" / "run.py", compute_code_parts("preprocess")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    forget()
    assert compute_code_parts("preprocess") == before
    said = changed_by(copy, "preprocess", "preprocess/run.py", "\nfrom stepkit.table import split\n")
    assert said == ["preprocess/run.py changed", "stepkit/table/split.py is new"]


def test_differences_are_said_in_words() -> None:
    before = {
        "parameter:test_size": "0.3",
        "parameter:columns": "x" * 100,
        "input:data/train.csv of segregate": "sha256:1",
        "input:verdict.json of evaluate": "sha256:1",
        "outside:champion": "none",
        "code:stepkit/table/tables.py": "1f",
    }
    now = {
        **before,
        "parameter:test_size": "0.2",
        "parameter:columns": "y" * 100,
        "input:data/train.csv of segregate": "sha256:2",
        "outside:champion": "version 3",
        "parameter:new": "1",
    }
    del now["code:stepkit/table/tables.py"]
    assert describe_differences(before, now) == [
        "output of segregate changed",
        "stepkit/table/tables.py is gone",
        "champion none -> version 3",
        "columns changed",
        "new is new",
        "test_size 0.3 -> 0.2",
    ]


def test_what_lies_outside_is_not_part_of_the_key() -> None:
    parts = {"parameter:test_size": "0.3", "outside:champion": "none"}
    assert compute_key(parts) == compute_key({**parts, "outside:champion": "version 3"})
    assert compute_key(parts) != compute_key({**parts, "parameter:test_size": "0.30"})


def test_settings_are_named_one_by_one_to_the_second_level() -> None:
    settings = {"threshold": 0.5, "random_forest": {"max_depth": 13, "options": {"b": 1, "a": None}}}
    assert flatten(settings) == {
        "threshold": "0.5",
        "random_forest.max_depth": "13",
        "random_forest.options": '{"a": null, "b": 1}',
    }


@pytest.fixture
def switching_threads() -> Iterator[None]:
    """Let another thread go on in the middle of each garbage collection, which comes often."""
    before, switch = gc.get_threshold(), lambda *_: time.sleep(0)
    gc.callbacks.append(switch)
    gc.set_threshold(50)
    yield
    gc.set_threshold(*before)
    gc.callbacks.remove(switch)


@pytest.mark.slow
@pytest.mark.usefixtures("switching_threads")
def test_jobs_in_threads_may_look_at_code_at_the_same_moment() -> None:
    files = sorted((ROOT / "pipeline").glob("*.py")) * 3
    look = fingerprint._find_imported_files.__wrapped__  # not what another job has found
    with ThreadPoolExecutor(4) as pool:
        looks = [pool.submit(lambda: [look(file) for file in files]) for _ in range(4)]
    assert len({len(one.result()) for one in looks}) == 1

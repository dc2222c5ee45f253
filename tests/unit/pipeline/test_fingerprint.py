"""pipeline.reuse.fingerprint: the changes that invalidate a finished run, and their description."""

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
from pipeline.steps import get_step
from stepkit.paths import ROOT

FOLDERS = ("preprocess", "random_forest", "check_data", "stepkit", "training")


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of some folders of the repository, to be changed."""
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)
    clear_caches()
    yield tmp_path
    clear_caches()


def clear_caches() -> None:
    for cached in (fingerprint._find_reached_files, fingerprint._find_imported_files, fingerprint._compute_file_digest):
        cached.cache_clear()


def describe_change_after(copy: Path, step: str, file: str, text: str, *packed: str) -> list[str]:
    """Append `text` to a file; return the differences in the fingerprint of `step`."""
    before = compute_code_parts(step, *packed)
    with (copy / file).open("a", encoding="utf-8", newline="") as target:
        target.write(text)
    clear_caches()
    return describe_differences(before, compute_code_parts(step, *packed))


@pytest.mark.parametrize(
    ("step", "file"),
    [
        ("preprocess", "preprocess/run.py"),
        ("preprocess", "preprocess/conda.yml"),
        ("preprocess", "preprocess/MLproject"),
        ("preprocess", "stepkit/step/artifacts.py"),  # imported by the step
        ("preprocess", "stepkit/table/columns.py"),  # imported by an imported module
        ("check_data", "check_data/data_tests.py"),  # run by pytest
        ("random_forest", "training/served_model.py"),  # run by MLflow
    ],
)
def test_every_file_that_a_step_executes_counts(copy: Path, step: str, file: str) -> None:
    assert describe_change_after(copy, step, file, "\n# another word\n") == [f"{file} changed"]


@pytest.mark.parametrize("file", ["stepkit/model/plots.py", "stepkit/table/split.py", "random_forest/run.py"])
def test_what_it_does_not_import_does_not_count(copy: Path, file: str) -> None:
    assert describe_change_after(copy, "preprocess", file, "\n# another word\n") == []


def test_what_is_packed_into_the_model_counts(copy: Path) -> None:
    packed = copy / "prediction_log" / "writer.py"
    packed.parent.mkdir(parents=True)
    packed.write_text("one = 1\n")
    changes = describe_change_after(
        copy,
        "random_forest",
        "prediction_log/writer.py",
        "two = 2\n",
        *get_step("random_forest", "random_forest").packs,
    )
    assert changes == ["prediction_log/writer.py changed"]


def test_a_new_import_brings_its_file_in_and_line_ends_do_not_count(copy: Path) -> None:
    path, before = copy / "preprocess" / "run.py", compute_code_parts("preprocess")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    clear_caches()
    assert compute_code_parts("preprocess") == before
    changes = describe_change_after(copy, "preprocess", "preprocess/run.py", "\nfrom stepkit.table import split\n")
    assert changes == ["preprocess/run.py changed", "stepkit/table/split.py is new"]


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
        "stepkit/table/tables.py was removed",
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
    """Make garbage collections frequent, and switch to another thread during each of them."""
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
    find_files = fingerprint._find_imported_files.__wrapped__  # without the cache
    with ThreadPoolExecutor(4) as pool:
        lookups = [pool.submit(lambda: [find_files(file) for file in files]) for _ in range(4)]
    assert len({len(lookup.result()) for lookup in lookups}) == 1

"""The forkserver and its pause of garbage collection."""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.launch.forkserver import WarmProcess, pause_gc, stop_forkserver, warm_up


def test_what_is_made_meanwhile_is_frozen_and_collecting_goes_on_even_if_it_is_interrupted() -> None:
    before = gc.get_freeze_count()
    created: list[list[int]] = []
    with suppress(KeyboardInterrupt), pause_gc():
        created += [[] for _ in range(1000)]
        assert not gc.isenabled()
        raise KeyboardInterrupt
    assert gc.get_freeze_count() >= before + len(created)
    assert gc.isenabled()
    gc.unfreeze()


@pytest.mark.slow
def test_a_step_begins_with_the_heavy_libraries_loaded(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text("import sys; print({'mlflow', 'sklearn', 'onnxruntime'} - {*sys.modules})")
    log = tmp_path / "log"
    log.touch()
    warm_up()
    try:
        step = WarmProcess([], str(tmp_path), {**os.environ}, log)
        assert step.wait() == 0
    finally:
        stop_forkserver()
    assert log.read_text() == "set()\n"

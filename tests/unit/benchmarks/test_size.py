"""benchmarks.size: whose memory is whose, and which rows break a limit."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest
from mlflow.entities import Run

from benchmarks.size import as_reference, broken_limits, folder_of, high_water, watched
from stepkit.paths import ROOT

pytestmark = pytest.mark.slow

HOLD_100_MB = "import os, sys, time; os.chdir(sys.argv[1]); held = b'x' * 100_000_000; time.sleep(0.5)"


def row(step: str, ratio: float = 1.0, peak_gb: float = 1.0) -> dict[str, Any]:
    return {"step": step, "ratio": ratio, "peak_gb_large": peak_gb}


def test_the_memory_of_a_process_belongs_to_the_folder_that_it_runs_in(tmp_path: Path) -> None:
    peaks = watched([sys.executable, "-c", HOLD_100_MB, str(ROOT / "download")], dict(os.environ), tmp_path / "out")
    assert 0.1 < peaks["download"] < 0.2
    assert peaks["pipeline"] > 0.1


def test_a_command_that_fails_tells_what_it_said_last(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"ended with status 3:\nno rows"):
        watched([sys.executable, "-c", "print('no rows'); exit(3)"], dict(os.environ), tmp_path / "out")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells it")
def test_the_highest_memory_is_told_of_a_living_process_and_not_of_another() -> None:
    assert high_water(os.getpid()) > 0.01
    assert high_water(2**30) == 0.0


def test_a_step_may_take_a_fifth_longer_per_row_and_hold_8_gb() -> None:
    assert broken_limits([row("preprocess", 12.0, 8.0)], growth=10) == []
    assert broken_limits([row("preprocess", 12.1), row("evaluate", peak_gb=8.1)], growth=10) == [
        "preprocess: 12.1 times as long for 10 times the rows",
        "evaluate: 8.1 GB, more than 8",
    ]


def test_the_seconds_of_the_forest_and_the_memory_of_all_together_are_shown_only() -> None:
    assert broken_limits([row("random_forest", 30.0), row("pipeline", 30.0, 20.0)], growth=10) == []


@pytest.mark.parametrize("source", ["there/main/download", "there/main#download", "git@host:a/main.git#download"])
def test_a_step_is_called_after_its_folder(source: str) -> None:
    run = SimpleNamespace(data=SimpleNamespace(tags={"mlflow.source.name": source}))
    assert folder_of(cast(Run, run)) == "download"


def test_the_reference_holds_each_client_once(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"ID": [1, 2, 3], "AGE": [24, 24, 57]}).to_parquet(path)
    assert pd.read_parquet(as_reference(path))["AGE"].tolist() == [24, 57]

"""Which steps may start, and which commands the warm launcher understands."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.execution.runner import is_ready, last_lines
from pipeline.launch.forkserver import step_arguments
from pipeline.steps import BY_NAME, STEPS


def test_steps_that_need_the_same_step_are_ready_together() -> None:
    done = {"download": "1", "preprocess": "2"}
    ready = [step.name for step in STEPS if step.name not in done and is_ready(step, list(STEPS), done)]
    assert ready == ["check_data", "segregate"]


def test_training_waits_for_the_data_checks_although_it_reads_nothing_of_them() -> None:
    forest = BY_NAME["random_forest"]
    done = {"download": "1", "preprocess": "2", "segregate": "3"}
    assert not is_ready(forest, list(STEPS), done)
    assert is_ready(forest, list(STEPS), {**done, "check_data": "4"})


def test_training_does_not_wait_for_data_checks_that_are_not_executed() -> None:
    assert is_ready(BY_NAME["random_forest"], [BY_NAME["random_forest"]], {"segregate": "3"})


def test_arguments_are_taken_from_a_steps_command_as_the_shell_would() -> None:
    command = "PYTHONPATH=.. python -P run.py --step preprocess --artifact_description 'two words' --input_run_id ''"
    words = ["--step", "preprocess", "--artifact_description", "two words", "--input_run_id", ""]
    assert step_arguments(command) == words


def test_another_command_is_left_to_the_shell() -> None:
    assert step_arguments("python other.py") is None


def test_of_a_crash_the_last_line_is_shown_and_not_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_URL", "http://me:XqSECRETqX@127.0.0.1/a.csv")
    log = tmp_path / "step.log"
    log.write_text('reading\nTraceback (most recent call last):\n  File "run.py", line 1\nKeyError: XqSECRETqX\n')
    assert last_lines(log) == "KeyError: ***"
    log.write_text("reading\nSegmentation fault\n")
    assert last_lines(log) == "reading\nSegmentation fault"
